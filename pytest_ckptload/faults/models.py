"""Faults of modules: loaders that are right for others get these wrong, or cannot load them.

Apart from broken loaders because here it is the module's author who can mend it: the sibling is a
module that does the same and can be loaded in this way.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import model
from pytest_ckptload.faults.unrestored import leaves_to_empty_unfilled
from pytest_ckptload.recipes import mmap_meta_assign, mmap_meta_swap

__all__: list[str] = []


class _Weighted(nn.Module):
    """A weight, which the others have besides."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))


class CountsInPython(_Weighted):
    def __init__(self) -> None:
        super().__init__()
        self.rates = [index / 4 for index in range(4)]


@model(
    "CKPT803",
    "huggingface/transformers#43957",
    "facebookresearch/dinov2#477",
    "ndif-team/nnterp#50",
    right=CountsInPython,
    load=mmap_meta_assign,
)
class ReadsValuesAtConstruction(_Weighted):
    """Construction reads numbers out of a tensor, which has none on meta."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = [value.item() for value in torch.linspace(0, 1, 4)]


@model("CKPT803", "pytorch/pytorch#96409", right=CountsInPython, load=mmap_meta_assign)
class SearchesAtConstruction(_Weighted):
    """Construction calls an operator that does not run on meta."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = [torch.arange(4).nonzero().numel() / 4]


class PassesAssignOn(_Weighted):
    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return super().load_state_dict(state_dict, strict, assign)


@model(
    "CKPT303",
    "meta-pytorch/botorch#3080",
    "Nixtla/neuralforecast#1032",
    right=PassesAssignOn,
    load=mmap_meta_assign,
)
class DropsAssign(_Weighted):
    """`load_state_dict` is overridden, and does not pass `assign` on."""

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load by copying, whatever is asked for."""
        return super().load_state_dict(state_dict, strict)


class KeepsAName(_Weighted):
    def __init__(self) -> None:
        super().__init__()
        self.watched = "weight"


@model(
    "CKPT803",
    "pytorch/pytorch#186796",
    "pytorch/pytorch#145529",
    right=KeepsAName,
    load=mmap_meta_swap,
)
class KeepsAWeakReference(_Weighted):
    """A weak reference to a parameter is kept, and what has one cannot be swapped."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = weakref.ref(self.weight)


class ComputesItAnew(_Weighted):
    @property
    def squared(self) -> torch.Tensor:
        return self.weight.square()


@model("CKPT803", "pytorch/pytorch#127313", right=ComputesItAnew, load=mmap_meta_swap)
class KeepsAGraph(_Weighted):
    """What was computed of a parameter is kept: its graph has the parameter, which cannot be
    swapped so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.squared = self.weight.square()


class SavesItsTable(_Weighted):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(4) + 0.5)


@model("CKPT303", "pytorch/pytorch#102212", right=SavesItsTable, load=mmap_meta_assign)
class KeepsItsTable(_Weighted):
    """A buffer is computed at construction and not saved: built on meta, it stays there."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(4) + 0.5, persistent=False)


@model("CKPT102", "Synthyra/FastPLMs#47", right=SavesItsTable, load=leaves_to_empty_unfilled)
class ResetsItsTable(_Weighted):
    """A buffer is filled by `reset_parameters`, which ran on meta, and not again afterwards."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.empty(4), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the table."""
        self.table.copy_(torch.arange(4) + 0.5)


class LooksItUp(_Weighted):
    @property
    def weights(self) -> list[nn.Parameter]:
        return [self.weight]


@model("CKPT303", "TransformerLensOrg/TransformerLens#1637", right=LooksItUp, load=mmap_meta_assign)
class KeepsAList(_Weighted):
    """A list holds a parameter as well, and keeps the one that was built on meta."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = [self.weight]


class CopiesBetweenModules(_Weighted):
    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        state_dict[f"{prefix}weight"] = state_dict[f"{prefix}weight"].clone()
        super()._load_from_state_dict(state_dict, prefix, *arguments)


@model("CKPT303", "pytorch/pytorch#105963", right=CopiesBetweenModules, load=mmap_meta_assign)
class CopiesInPlace(_Weighted):
    """The module loads by code of its own, which copies in place: nothing, on meta."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        with torch.no_grad():
            self.weight.copy_(state_dict[f"{prefix}weight"])


def tie(module: Any, keys: object = None) -> None:
    module.head.weight = module.embedding.weight


class TiesAgain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 2)
        self.head = nn.Linear(2, 3, bias=False)
        tie(self)
        itself: Any = self  # what registers hooks is not typed
        itself.register_load_state_dict_post_hook(tie)


@model("CKPT401", "pytorch/pytorch#188346", right=TiesAgain, load=mmap_meta_assign)
class TiesAtConstruction(nn.Module):
    """A weight is tied at construction, and not again after the load, which assigns each name."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 2)
        self.head = nn.Linear(2, 3, bias=False)
        tie(self)


@model(
    "CKPT102",
    "huggingface/transformers#37615",
    "huggingface/transformers#36309",
    right=SavesItsTable,
    load=leaves_to_empty_unfilled,
)
class LoadsItsBackbone(_Weighted):
    """Construction loads weights that the file does not hold: nothing, on meta."""

    def __init__(self) -> None:
        super().__init__()
        backbone = nn.PReLU(4)
        backbone.load_state_dict({"weight": torch.arange(4, device="cpu") + 0.5})
        self.register_buffer("table", backbone.weight.detach(), persistent=False)
