"""Faults of ties where the file lacks a name: what was not saved is filled from elsewhere, or not
at all.

Apart from the ties that come undone: here the loader has to tie, for the file holds some names of a
tensor alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from pytest_ckptload.faults.fault import loader
from pytest_ckptload.faults.parts import loads_without_strict, read_state
from pytest_ckptload.faults.writers import TiedHead, saves_shared_tensors_once
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes import eager
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


class _Translator(nn.Module):
    """Three names of one embedding, and a head of the same shape that has its own weight."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Embedding(3, 2)
        self.head = nn.Linear(2, 3, bias=False)
        self.encoder = nn.Embedding(3, 2)
        self.decoder = nn.Embedding(3, 2)
        self.encoder.weight = self.decoder.weight = self.shared.weight


def _saves_head_and_decoder(module: nn.Module, path: Path) -> None:
    state = module.state_dict()
    torch.save({name: state[name] for name in ("head.weight", "decoder.weight")}, path)


def _fills(build: Build, path: Path, device: torch.device, *sources: str) -> nn.Module:
    """Load what there is, and fill the shared embedding from the first source in the file."""
    state = read_state(path, device)
    module = loads_without_strict(build, path, device)
    source = next(name for name in sources if name in state)
    with torch.no_grad():
        module.get_parameter("shared.weight").copy_(state[source])
    return module


def fills_from_the_decoder(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _fills(build, path, device, "shared.weight", "decoder.weight", "head.weight")


@loader(
    "CKPT101",
    "huggingface/transformers#48154",
    sibling=fills_from_the_decoder,
    given={"build": _Translator, "save": _saves_head_and_decoder},
)
def fills_from_the_head(build: Build, path: Path, device: torch.device) -> nn.Module:
    """A shared weight that the file lacks is filled from the first name in a list, which is the
    head's, and the head is not tied.
    """
    return _fills(build, path, device, "shared.weight", "head.weight", "decoder.weight")


class _Told(TiedHead):
    """A model that says of itself that it is tied."""

    tied = True


class _Wrapped(nn.Module):
    """One around that, which says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = _Told()


def _ties_when_told(
    build: Build, path: Path, device: torch.device, told: Callable[[nn.Module], bool]
) -> nn.Module:
    module = built(build, device)
    inner = module.get_submodule("inner")
    inner.head = nn.Linear(2, 3, bias=False, device=device)
    module.load_state_dict(read_state(path, device), strict=False)
    if told(module):
        inner.head.weight = inner.get_parameter("embedding.weight")
    return module


def _is_tied(module: nn.Module) -> bool:
    return getattr(module, "tied", False)


def asks_every_part_whether_to_tie(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _ties_when_told(build, path, device, lambda module: any(map(_is_tied, module.modules())))


@loader(
    "CKPT401",
    "huggingface/transformers#43429",
    "vec2text/vec2text#94",
    sibling=asks_every_part_whether_to_tie,
    given={"build": _Wrapped, "save": saves_shared_tensors_once},
)
def asks_the_wrapper_whether_to_tie(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Whether to tie is asked of the outermost module, which does not know: the head, which the
    file lacks, stays as it was initialised.
    """
    return _ties_when_told(build, path, device, _is_tied)


class _Fused(nn.Module):
    """A fused weight, and a part of its memory as a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = nn.Parameter(torch.ones(4))
        self.query = nn.Parameter(self.fused.detach()[:2])


def _saves_the_fused(module: nn.Module, path: Path) -> None:
    torch.save({"fused": module.state_dict()["fused"]}, path)


@loader(
    "CKPT401",
    "TransformerLensOrg/TransformerLens#1725",
    sibling=loads_without_strict,
    given={"build": _Fused, "save": _saves_the_fused},
)
def assigns_one_of_two(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Of two parameters over one memory the file holds one: it is assigned, and the other goes on
    with the memory of before.
    """
    module = built(build, device)
    module.load_state_dict(read_state(path, device), strict=False, assign=True)
    return module


@loader(
    "CKPT803",
    "huggingface/transformers#42460",
    sibling=loads_without_strict,
    given={"build": TiedHead, "save": saves_shared_tensors_once},
)
def refuses_what_a_tie_fills(build: Build, path: Path, device: torch.device) -> nn.Module:
    """A file that lacks a name is refused, though the name is tied to one that it holds."""
    return eager(build, path, device)
