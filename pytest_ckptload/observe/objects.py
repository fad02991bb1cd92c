"""Whether two plain objects that a module carries say the same: attributes, extra state, hooks.

Apart from the tensors, which are compared by bytes alone: here are numbers, strings, containers and
whatever else a module may hold, and nothing of it is called.
"""

from __future__ import annotations

import enum
import functools
import io
from collections.abc import Mapping
from typing import Any

import torch

from pytest_ckptload.observe.tensors import same_tensor

__all__ = ["alike", "called"]

_PLAIN = (
    bool,
    int,
    str,
    bytes,
    bytearray,
    type(None),
    type,
    enum.Enum,
    set,
    frozenset,
    range,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)
_DEEPEST = 20


def alike(left: Any, right: Any, depth: int = 0) -> bool:
    """Whether two objects say the same, as far as that can be told without running their code.

    Tensors do with the same dtype, shape and bytes, functions with the same name. Objects of a
    class that nothing is known of are alike where the class is the same.
    """
    if left is right or depth > _DEEPEST:
        return True
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        if left.is_meta and right.is_meta:
            return (left.dtype, left.shape) == (right.dtype, right.shape)
        return same_tensor(left, right)
    if type(left) is not type(right):
        return False
    if isinstance(left, (float, complex)):
        return repr(left) == repr(right)  # nan is nan, and -0.0 is not 0.0
    if isinstance(left, _PLAIN):
        return bool(left == right)
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(
            alike(left[key], right[key], depth + 1) for key in left
        )
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(
            alike(one, other, depth + 1) for one, other in zip(left, right, strict=True)
        )
    if isinstance(left, io.BytesIO):
        return bool(left.getvalue() == right.getvalue())
    if callable(left):
        return called(left) == called(right)
    return True


def called(function: Any) -> str:
    """What a function is called, or the class of an object that is called like one."""
    if isinstance(function, functools.partial):
        return called(function.func)
    # Torch wraps some hooks in an object that holds the function.
    inner = getattr(function, "hook", None)
    if callable(inner) and type(function).__module__.startswith("torch."):
        return called(inner)
    name = getattr(function, "__qualname__", None)
    if not isinstance(name, str):
        return type(function).__qualname__
    return name.replace("<locals>.", "")
