"""The tensors of a checkpoint, and its file: a ``CheckpointSpec`` made real for one module.

Apart from ``case`` because this half needs torch, and from ``zoo`` because it serves any module, a
user's own included. Contents are patterns, not random numbers: cheap, the same on every machine,
and different for every tensor of a case, so that a swap or a re-initialisation shows.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import CheckpointSpec, TensorSpec, View
from pytest_ckptload.zoo.structure import Slot, Structure

__all__ = ["VALUES", "fill", "state_of", "value_kinds", "write"]

_UNSIGNED = {getattr(torch, "float8_e8m0fnu", None)}
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

# Bit patterns (float64, float32, float16, bfloat16) of the values that loaders lose.
VALUES: Mapping[str, Mapping[torch.dtype, int]] = {
    "nan-payload": {
        torch.float64: 0x7FF8_0000_0000_0ABC,
        torch.float32: 0x7FC0_0ABC,
        torch.float16: 0x7E5B,
        torch.bfloat16: 0x7FC5,
    },
    "negative-zero": {
        torch.float64: -(1 << 63),
        torch.float32: -(1 << 31),
        torch.float16: -(1 << 15),
        torch.bfloat16: -(1 << 15),
    },
    # Beyond what the next narrower type, and a float of the same width, holds.
    "wide": {
        torch.int64: (1 << 53) + 1,
        torch.int32: (1 << 24) + 1,
        torch.int16: (1 << 11) + 1,
    },
    "denormal": {
        torch.float64: 1,
        torch.float32: 1,
        torch.float16: 1,
        torch.bfloat16: 1,
    },
    "infinity": {
        torch.float64: 0x7FF0_0000_0000_0000,
        torch.float32: 0x7F80_0000,
        torch.float16: 0x7C00,
        torch.bfloat16: 0x7F80,
    },
}


def value_kinds(dtype: torch.dtype) -> list[str]:
    """The kinds of special value that ``dtype`` can hold."""
    return [kind for kind, patterns in VALUES.items() if dtype in patterns]


def fill(shape: tuple[int, ...], dtype: torch.dtype, index: int) -> torch.Tensor:
    """A dense CPU tensor with the ``index``-th plain pattern: finite, non-zero where the dtype has
    more than two values, of both signs where it has them, and with bits that do not survive a
    detour over a narrower dtype.
    """
    count = math.prod(shape)
    steps = torch.arange(count, dtype=torch.int64, device="cpu")
    if dtype == torch.bool:
        flat = (steps + index) % 2 == 0
    elif dtype.is_complex:
        part = torch.float64 if dtype == torch.complex128 else torch.float32
        real = fill((count,), part, index)
        flat = torch.complex(real, real.flip(0) + 0.25).to(dtype)
    elif dtype.is_floating_point and dtype.itemsize > 1:
        sign = 1 - steps.remainder(2).mul_(2)
        ramp = (steps.mul_(31).add_(7919 * (index + 1)).remainder_(65521)).double()
        flat = ramp.div_(16384).add_(1 / 3).mul_(sign).to(dtype)
    elif dtype.is_floating_point:
        codes = (steps * 3 + 5 * index).remainder_(100).add_(1)
        # The highest bit is the sign, where there is one.
        codes += steps.remainder(2).mul_(0 if dtype in _UNSIGNED else 128)
        flat = codes.to(torch.uint8).view(dtype)
    else:
        span = 101 if dtype.itemsize == 1 else 30011
        sign = 1 - steps.remainder(2).mul_(2 if dtype.is_signed else 0)
        flat = steps.mul_(31).add_(7919 * (index + 1)).remainder_(span).add_(1).mul_(sign).to(dtype)
    return flat.reshape(shape)


def state_of(module: nn.Module, structure: Structure, spec: CheckpointSpec) -> dict[str, Any]:
    """What the checkpoint of ``module`` holds: a state dict with its ``_metadata``, on CPU.

    ``module`` is a fresh one, and stays as it is: the pattern of a tensor is moved on when it would
    repeat what construction gave, or what another small tensor holds.
    """
    original = module.state_dict()
    filled = _Filler(original).fill_all(structure, spec)
    for view in spec.views:
        _make_views(filled, view)
    state: dict[str, Any] = OrderedDict()
    for name, value in original.items():
        if name not in spec.missing:
            state[name] = filled.get(name, value)
    for index, (name, tensor) in enumerate(spec.extra.items()):
        state[name] = _tensor(tensor, (2,), torch.float32, 1000 + index)
    if hasattr(original, "_metadata"):
        state._metadata = original._metadata  # type: ignore[attr-defined]
    return state


class _Filler:
    """Fills slots with patterns, none of them met before."""

    def __init__(self, original: Mapping[str, Any]) -> None:
        self.original = original
        self.small: set[tuple[object, ...]] = set()
        self.index = 0

    def fill_all(self, structure: Structure, spec: CheckpointSpec) -> dict[str, torch.Tensor]:
        filled: dict[str, torch.Tensor] = {}
        for slot in structure.saved:
            if spec.ties != "differ" and slot.group in filled:
                twin = filled[slot.group]
                filled[slot.name] = twin if spec.ties == "shared" else twin.clone()
            else:
                filled[slot.name] = self.fill_one(slot, spec.tensors.get(slot.name, TensorSpec()))
        return filled

    def fill_one(self, slot: Slot, spec: TensorSpec) -> torch.Tensor:
        # A bool scalar has two values to offer: after a few tries, take what there is.
        for _ in range(4):
            tensor = _tensor(spec, slot.shape, slot.dtype, self.index)
            self.index += 1
            if not self._met(slot, tensor):
                break
        return tensor

    def _met(self, slot: Slot, tensor: torch.Tensor) -> bool:
        if tensor.numel() == 0:
            return False
        initial = self.original[slot.name]
        if tensor.dtype == initial.dtype and not initial.is_meta and _same(tensor, initial):
            return True
        if tensor.numel() > 4:
            return False
        key = (tensor.dtype, *tensor.reshape(-1).view(torch.uint8).tolist())
        met = key in self.small
        self.small.add(key)
        return met


def _same(tensor: torch.Tensor, initial: torch.Tensor) -> bool:
    if tensor.shape != initial.shape or initial.device.type != "cpu" or initial.is_sparse:
        return False
    integer = _INTEGERS[min(8, tensor.dtype.itemsize)]
    left, right = tensor.reshape(-1), initial.detach().reshape(-1)
    return torch.equal(left.view(integer), right.view(integer))


def _tensor(
    spec: TensorSpec, shape: tuple[int, ...], dtype: torch.dtype, index: int
) -> torch.Tensor:
    if spec.dtype is not None:
        dtype = getattr(torch, spec.dtype)
    tensor = fill(shape if spec.shape is None else spec.shape, dtype, index)
    for position, kind in spec.values:
        bits = tensor.view(-1).view(_INTEGERS[dtype.itemsize])
        bits[position] = VALUES[kind][dtype]
    return tensor


def _make_views(filled: dict[str, torch.Tensor], view: View) -> None:
    # Where the two overlap the storage holds the contents of the first. Neither is at its start.
    first, second = (filled[name] for name in view.names)
    start = 1 + view.shift
    room = max(1 + first.numel(), start + second.numel())
    storage = torch.zeros(room, dtype=first.dtype, device="cpu")
    storage[start : start + second.numel()] = second.reshape(-1)
    storage[1 : 1 + first.numel()] = first.reshape(-1)
    filled[view.names[0]] = storage[1 : 1 + first.numel()].view(first.shape)
    filled[view.names[1]] = storage[start : start + second.numel()].view(second.shape)


def write(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint as ``torch.save`` does."""
    torch.save(state, path)
