"""What a checkpoint of a module must hold: its names, shapes, dtypes and ties.

Apart because everybody who makes, fills or judges a checkpoint asks it of a module, and nobody
needs more of the module than this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pytest_ckptload.machine.dtypes import LEFT_OUT, known

__all__ = ["Slot", "Structure", "structure_of"]

_LEFT_OUT = frozenset(getattr(torch, name) for name in known(LEFT_OUT))


@dataclass(frozen=True)
class Slot:
    """One entry of a module's state dict.

    ``kind`` is ``"parameter"`` or ``"buffer"``, or ``"lazy"`` for one without a shape as yet, which
    has the shape ``(0,)`` here; ``group`` is the first of the names under which the module has this
    very tensor. ``numel`` counts the elements that lie in memory one by one: none of those of a
    sparse tensor do.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: str
    group: str
    numel: int

    @property
    def trainable(self) -> bool:
        """Whether a parameter of this dtype can require gradients."""
        return self.dtype.is_floating_point or self.dtype.is_complex


@dataclass(frozen=True)
class Structure:
    """The persistent tensors of a module, in the order of its state dict.

    ``woven`` are the groups of names whose tensors lie in the same stretch of one storage by
    construction, and are not the same tensor.
    """

    saved: tuple[Slot, ...] = ()
    woven: tuple[tuple[str, ...], ...] = ()

    def ties(self) -> list[tuple[str, ...]]:
        """The groups of names that are one tensor in the module."""
        groups: dict[str, list[str]] = {}
        for slot in self.saved:
            groups.setdefault(slot.group, []).append(slot.name)
        return [tuple(names) for names in groups.values() if len(names) > 1]


def structure_of(module: nn.Module) -> Structure:
    """The structure of ``module``.

    Entries of its state dict that are no tensors (extra state) are left out, nested ones, and those
    of dtypes that nothing is filled with: they are saved as construction gives them.
    """
    groups: dict[int, str] = {}
    slots = []
    state = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor) or tensor.dtype in _LEFT_OUT or tensor.is_nested:
            continue
        group = groups.setdefault(id(tensor), name)
        if nn.parameter.is_lazy(tensor):
            slots.append(Slot(name, (0,), tensor.dtype, "lazy", group, 0))
            continue
        kind = "parameter" if isinstance(tensor, nn.Parameter) else "buffer"
        numel = tensor.numel() if tensor.layout == torch.strided else 0
        slots.append(Slot(name, tuple(tensor.shape), tensor.dtype, kind, group, numel))
    return Structure(tuple(slots), _woven(state, groups.values()))


def _woven(state: Mapping[str, Any], names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    extents = sorted(_extent(name, state[name]) for name in names if _lies_somewhere(state[name]))
    woven: list[list[str]] = []
    reached = (0, 0)
    for storage, start, end, name in extents:
        if (storage, start) < reached:
            woven[-1].append(name)
        else:
            woven.append([name])
        reached = max(reached, (storage, end))
    return tuple(tuple(group) for group in woven if len(group) > 1)


def _lies_somewhere(tensor: torch.Tensor) -> bool:
    if nn.parameter.is_lazy(tensor) or tensor.layout != torch.strided:
        return False
    return not tensor.is_meta and tensor.numel() > 0


def _extent(name: str, tensor: torch.Tensor) -> tuple[int, int, int, str]:
    """The storage of a tensor, and the first of its elements and the one behind its last there."""
    start = int(tensor.storage_offset())
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    end = start + int(sum((size - 1) * stride for size, stride in steps)) + 1
    return tensor.untyped_storage()._cdata, start, end, name
