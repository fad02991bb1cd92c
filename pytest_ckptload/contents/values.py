"""The values that loaders lose: NaNs and their payloads, zeros, denormals, extremes.

Apart from the patterns because they are bits, put one by one on top of those: no arithmetic makes a
signalling NaN, or leaves one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch

from pytest_ckptload.machine.dtypes import PARTS

__all__ = ["VALUES", "put", "value_kinds"]

_IMAGINARY = "imaginary-"


def _floating(exponent: int, mantissa: int) -> dict[str, int]:
    """The bits of what a float with so many bits of exponent and mantissa can hold, as IEEE 754 has
    it.
    """
    sign, infinity = 1 << (exponent + mantissa), ((1 << exponent) - 1) << mantissa
    quiet = 1 << (mantissa - 1)
    payload = 0xABC % quiet
    return {
        "nan-payload": infinity | quiet | payload,
        "negative-zero": sign,
        "denormal": 1,
        "infinity": infinity,
        "negative-infinity": sign | infinity,
        "nan-signalling": infinity | (payload or 1),
        "largest-denormal": (1 << mantissa) - 1,
        "largest": infinity - 1,
        "lowest": sign | (infinity - 1),
        "zero": 0,
    }


def _integer(bits: int, *, signed: bool) -> dict[str, int]:
    """The bits of an integer's extremes, and of one beyond what the next narrower type, and a float
    of the same width, holds.
    """
    exact = {16: 11, 32: 24, 64: 53}.get(bits)
    wide = {} if exact is None else {"wide": (1 << exact) + 1}
    half = 1 << (bits - 1)
    largest, lowest = (half - 1, half) if signed else (2 * half - 1, 0)
    return {**wide, "largest": largest, "lowest": lowest}


def _unsigned_zero(mantissa: int) -> dict[str, int]:
    """Of the floats that have one zero, and a NaN where others have the negative one."""
    return {
        "nan": 0x80,
        "denormal": 1,
        "largest-denormal": (1 << mantissa) - 1,
        "largest": 0x7F,
        "lowest": 0xFF,
        "zero": 0,
    }


_BY_NAME: Mapping[str, Mapping[str, int]] = {
    "float64": _floating(11, 52),
    # As bytes, what readers of old formats take for the end of a zip archive: a small number.
    "float32": {
        **_floating(8, 23),
        "archive-end": int.from_bytes(b"PK\5\6", sys.byteorder),
    },
    "float16": _floating(5, 10),
    "bfloat16": _floating(8, 7),
    "float8_e5m2": _floating(5, 2),
    # No infinity, and NaN is all ones: the sign is all the payload it has.
    "float8_e4m3fn": {
        "nan-payload": 0xFF,
        "negative-zero": 0x80,
        "denormal": 1,
        "largest-denormal": 7,
        "largest": 0x7E,
        "lowest": 0xFE,
        "zero": 0,
    },
    "float8_e4m3fnuz": _unsigned_zero(3),
    "float8_e5m2fnuz": _unsigned_zero(2),
    # Powers of two, without a sign and without a zero.
    "float8_e8m0fnu": {"nan": 0xFF, "largest": 0xFE, "lowest": 0},
    # Two numbers, each with the value.
    "float4_e2m1fn_x2": {
        "negative-zero": 0x88,
        "denormal": 0x11,
        "largest": 0x77,
        "lowest": 0xFF,
        "zero": 0,
    },
    **{f"int{bits}": _integer(bits, signed=True) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": _integer(bits, signed=False) for bits in (8, 16, 32, 64)},
    **{f"bits{shape}": _integer(8, signed=False) for shape in ("8", "1x8", "2x4", "4x2")},
    "bits16": _integer(16, signed=False),
}

VALUES: Mapping[torch.dtype, Mapping[str, int]] = {
    getattr(torch, name): values for name, values in _BY_NAME.items() if hasattr(torch, name)
}
"""The bits of each kind of value, by dtype. Complex numbers take those of their parts."""


def value_kinds(dtype: torch.dtype) -> list[str]:
    """The kinds of special value that ``dtype`` can hold; of complex ones in either part."""
    kinds = list(VALUES.get(PARTS.get(dtype, dtype), ()))
    return [*kinds, *(_IMAGINARY + kind for kind in kinds)] if dtype.is_complex else kinds


def put(tensor: torch.Tensor, position: int, kind: str) -> None:
    """Have the element at ``position`` of a dense tensor hold the value of this kind, as bits."""
    part = PARTS.get(tensor.dtype, tensor.dtype)
    if tensor.dtype.is_complex:
        position = 2 * position + kind.startswith(_IMAGINARY)
    bits = VALUES[part][kind.removeprefix(_IMAGINARY)]
    parts = tensor.view(-1).view(torch.uint8).view(-1, part.itemsize)
    parts[position] = torch.tensor(list(bits.to_bytes(part.itemsize, sys.byteorder))).byte()
