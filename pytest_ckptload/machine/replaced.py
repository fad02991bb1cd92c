"""Functions of torch's that loaders replace while they load: those that read, and those that
initialise.

Apart from torch's state because these are no settings: what stands in their place has a name, and
no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import init

__all__ = ["functions", "put_back"]

_OWNERS: dict[str, Any] = {
    "torch.load": torch,
    **{f"nn.init.{name}": init for name in vars(init) if name.endswith("_") and name[0] != "_"},
    **{
        f"nn.{name}.reset_parameters": kind
        for name, kind in vars(nn).items()
        if isinstance(kind, type) and "reset_parameters" in vars(kind)
    },
}


def functions() -> dict[str, Any]:
    """Each of them, by the name under which it is called."""
    return {name: vars(owner)[_attribute(name)] for name, owner in _OWNERS.items()}


def put_back(before: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Have each be again what it was; the answer says which were not, and what they were and had
    become.
    """
    changed = {}
    for name, was in before.items():
        owner, attribute = _OWNERS[name], _attribute(name)
        became = vars(owner).get(attribute)
        if became is not was:
            changed[name] = (_called(was), f"another function, {_called(became)},")
            setattr(owner, attribute, was)
    return changed


def _called(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _attribute(name: str) -> str:
    return name.rpartition(".")[2]
