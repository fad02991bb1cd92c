"""A module made from a state dict's own names, shapes and dtypes, for files that come without one.

Apart from the catalogue because nothing is drawn here: the file says it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["module_like"]


_Elements = tuple[Any, ...]

_TAKEN = frozenset(vars(nn.Module()))


class FromFile(nn.Module):
    """One level of the names in a file."""


def module_like(state: Mapping[str, Any]) -> nn.Module:
    """A module whose state dict has the names, shapes, dtypes and ties of ``state``.

    Floating and complex tensors become parameters, others buffers, on the ambient device; entries
    that are no tensors are left out. Raises ``ValueError`` where a name is both a tensor and a
    prefix, or one that no module can have.
    """
    root = FromFile()
    made: dict[_Elements, torch.Tensor] = {}
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            continue
        *path, last = name.split(".")
        if last in _TAKEN:
            raise ValueError(
                f"{name!r} cannot be the name of a tensor in a module, which keeps {last!r} for "
                "itself: give build="
            )
        owner: nn.Module = root
        for part in path:
            if part in owner._parameters or part in owner._buffers:
                raise ValueError(
                    f"{name!r}: {part!r} is a tensor and a module at once in this file"
                )
            if part not in owner._modules:
                owner._modules[part] = FromFile()
            owner = owner._modules[part]  # type: ignore[assignment]
        if last in owner._modules:
            raise ValueError(f"{name!r} is a tensor and a module at once in this file")
        _register(owner, last, value, made)
    return root


def _elements(value: torch.Tensor) -> _Elements:
    """What makes two entries one tensor: the very same elements of one storage. State dicts hold
    tied parameters so, as two tensors.
    """
    if value.layout != torch.strided or not value.numel():
        return (id(value),)
    return value.data_ptr(), value.dtype, tuple(value.shape), value.stride()


def _register(
    owner: nn.Module, name: str, value: torch.Tensor, made: dict[_Elements, torch.Tensor]
) -> None:
    key = _elements(value)
    tensor = made.get(key)
    if tensor is None:
        empty = torch.zeros(value.shape, dtype=value.dtype)
        trainable = value.is_floating_point() or value.is_complex()
        tensor = nn.Parameter(empty) if trainable else empty
        made[key] = tensor
    # Straight into the dictionaries: names in files need not be identifiers.
    if isinstance(tensor, nn.Parameter):
        owner._parameters[name] = tensor
    else:
        owner._buffers[name] = tensor
