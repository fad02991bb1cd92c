"""What tensors are filled with: patterns, different for every tensor of a case.

Patterns, not random numbers: cheap, the same on every machine, and different for every tensor of a
case, so that a swap or a re-initialisation shows. Apart from the state dicts they stand in because
gradients are filled so, too, and scripts quote ``fill`` as it stands.
"""

from __future__ import annotations

import math

import torch

__all__ = ["INTEGERS", "fill"]

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fill(shape: tuple[int, ...], dtype: torch.dtype, index: int) -> torch.Tensor:
    """A dense CPU tensor with the ``index``-th plain pattern: finite, non-zero where the dtype has
    more than two values, of both signs where it has them, and with bits that do not survive a
    detour over a narrower dtype.
    """
    count = math.prod(shape)
    steps = torch.arange(count, dtype=torch.int64, device="cpu")
    if dtype == torch.bool:
        # Each element goes by a bit of the index, and every other one by its opposite.
        flat = (steps.new_full((), index) >> steps.remainder(8)) % 2 == steps % 2
    elif dtype.is_complex:
        part = torch.float64 if dtype == torch.complex128 else torch.float32
        real = fill((count,), part, index)
        flat = torch.complex(real, real.flip(0) + 0.25).to(dtype)
    elif dtype.is_floating_point and dtype.itemsize > 1:
        sign = 1 - steps.remainder(2).mul_(2)
        ramp = (steps.mul_(31).add_(7919 * (index + 1)).remainder_(65521)).double()
        flat = ramp.div_(16384).add_(1 / 3).mul_(sign).to(dtype)
    elif dtype.is_floating_point:
        codes = (steps * (3 + index // 100) + 7 * index).remainder_(100).add_(1)
        # The highest bit is the sign, where there is one.
        codes += steps.remainder(2).mul_(0 if "e8m0" in str(dtype) else 128)
        flat = codes.to(torch.uint8).view(dtype)
    elif str(dtype).startswith("torch.bits"):
        flat = fill((count,), INTEGERS[dtype.itemsize], index).view(dtype)
    else:
        span = 101 if dtype.itemsize == 1 else 30011
        sign = 1 - steps.remainder(2).mul_(2 if dtype.is_signed else 0)
        flat = steps.mul_(31).add_(7919 * (index + 1)).remainder_(span).add_(1).mul_(sign).to(dtype)
    return flat.reshape(shape)
