"""What tensors are filled with: patterns, and the values that loaders lose.

Patterns, not random numbers: cheap, the same on every machine, and different for every tensor of a
case, so that a swap or a re-initialisation shows. Apart from the state dicts they stand in because
gradients are filled so, too, and scripts quote ``fill`` as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

__all__ = ["INTEGERS", "VALUES", "fill", "value_kinds"]

_UNSIGNED = {getattr(torch, "float8_e8m0fnu", None)}
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

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
