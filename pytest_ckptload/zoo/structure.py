"""What a checkpoint of a module must hold: its names, shapes, dtypes and ties.

Apart because everybody who makes, fills or judges a checkpoint asks it of a module, and nobody
needs more of the module than this.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pytest_ckptload.dtypes import LEFT_OUT, known

__all__ = ["Slot", "Structure", "structure_of"]

_LEFT_OUT = frozenset(getattr(torch, name) for name in known(LEFT_OUT))


@dataclass(frozen=True)
class Slot:
    """One entry of a module's state dict.

    ``kind`` is ``"parameter"`` or ``"buffer"``; ``group`` is the first of the names under which the
    module has this very tensor.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: str
    group: str
    numel: int


@dataclass(frozen=True)
class Structure:
    """The persistent tensors of a module, in the order of its state dict."""

    saved: tuple[Slot, ...] = ()

    def ties(self) -> list[tuple[str, ...]]:
        """The groups of names that are one tensor in the module."""
        groups: dict[str, list[str]] = {}
        for slot in self.saved:
            groups.setdefault(slot.group, []).append(slot.name)
        return [tuple(names) for names in groups.values() if len(names) > 1]


def structure_of(module: nn.Module) -> Structure:
    """The structure of ``module``.

    Entries of its state dict that are no tensors (extra state) are left out, and those of dtypes
    that nothing is filled with: they are saved as construction gives them.
    """
    groups: dict[int, str] = {}
    slots = []
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor) or tensor.dtype in _LEFT_OUT:
            continue
        kind = "parameter" if isinstance(tensor, nn.Parameter) else "buffer"
        group = groups.setdefault(id(tensor), name)
        slots.append(Slot(name, tuple(tensor.shape), tensor.dtype, kind, group, tensor.numel()))
    return Structure(tuple(slots))
