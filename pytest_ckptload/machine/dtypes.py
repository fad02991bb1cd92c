"""Every dtype of torch: those that checkpoints are generated with, and those that are left out.

Apart, and below everything else, because features, contents and observation go by the same groups.
By name, since no release of torch has all of them.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping

import torch
from torch.torch_version import TorchVersion

__all__ = [
    "COMPLEX",
    "FILLED",
    "LEFT_OUT",
    "LOW_PRECISION",
    "ORDINARY",
    "PACKED",
    "PARTS",
    "RARE",
    "UNFILLED",
    "UNTYPED",
    "known",
    "named",
]

ORDINARY = ("float32", "float64", "int64", "int32", "bool")
"""What everybody loads."""

LOW_PRECISION = (
    "bfloat16",
    "float16",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
"""Floating numbers of two bytes or one."""

COMPLEX = ("complex64", "complex128", "complex32")
"""Two floating numbers to an element."""

_BITS = ("bits8", "bits16", "bits1x8", "bits2x4", "bits4x2")
_FLOAT4 = "float4_e2m1fn_x2"

_UNSIGNED = ("uint16", "uint32", "uint64")
# Torch 2.4 has types that it does not save yet, and others that it does not fill.
_OLD = TorchVersion(torch.__version__) < "2.6"

RARE = ("uint8", "int8", "int16", *(() if _OLD else _UNSIGNED), _FLOAT4, *_BITS)
"""What tables of dtypes are often without: other integers, and bytes that hold several numbers."""

UNTYPED = (*LOW_PRECISION[2:], "complex32", *_UNSIGNED, _FLOAT4, *_BITS)
"""Those that came after torch gave up a type of storage for each dtype."""

FILLED = (*ORDINARY, *LOW_PRECISION, *COMPLEX, *RARE)
"""All that tensors are generated with, simplest first."""

_NOT_SAVED = "torch.save refuses it: its table of storage types, made of older dtypes, lacks it"
_DEPRECATED = (
    "deprecated (pytorch/pytorch#184982): making one warns, and so does torch.load, on which every "
    "loader fails where warnings are errors"
)

LEFT_OUT: Mapping[str, str] = {
    **dict.fromkeys(_UNSIGNED if _OLD else (), _NOT_SAVED),
    **{f"{sign}int{bits}": _NOT_SAVED for sign in ("", "u") for bits in range(1, 8)},
    **dict.fromkeys(("qint8", "quint8", "qint32"), _DEPRECATED),
    **dict.fromkeys(("quint4x2", "quint2x4"), f"{_DEPRECATED}; nor can torch copy it"),
    "bcomplex32": "experimental (pytorch/pytorch#173783): torch can neither fill nor compare it",
}
"""Dtypes that nothing is generated with, and why. What a module has of them keeps its contents."""


def known(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names that are dtypes in the installed torch."""
    return tuple(name for name in names if hasattr(torch, name))


@functools.cache
def named(name: str) -> torch.dtype:
    """The dtype by this name.

    Of complex32 torch warns, once a process: that is done here, and not in the loader under test.
    """
    dtype: torch.dtype = getattr(torch, name)
    if dtype == torch.complex32:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.empty(0, dtype=dtype, device="cpu")
    return dtype


PACKED = frozenset(getattr(torch, name) for name in known((_FLOAT4, *_BITS)))
"""Dtypes that are moved as bytes and no more: torch neither fills, converts nor shows them."""

UNFILLED = PACKED | {
    getattr(torch, name) for name in known((*LOW_PRECISION[2:], "complex32")) if _OLD
}
"""Dtypes whose new memory torch does not fill, though it is asked to fill all."""

PARTS: Mapping[torch.dtype, torch.dtype] = {
    torch.complex128: torch.float64,
    torch.complex64: torch.float32,
    torch.complex32: torch.float16,
}
"""The dtype of the real and of the imaginary part."""
