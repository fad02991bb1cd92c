"""The reference: read the whole file, build the module on its device, copy.

Apart from the other recipes because every check runs it. ``state_dict_in`` is here as well: what
the reference takes for the state dict of a file is what counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.loader import Build, MakeOptimizer

__all__ = ["built", "eager", "eager_resume", "state_dict_in"]


def eager(
    build: Build,
    path: Path,
    device: torch.device,
    *,
    strict: bool = True,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """``torch.load``, build, ``load_state_dict`` by copy."""
    payload = torch.load(path, map_location=device, weights_only=True, mmap=False)
    module = built(build, device)
    module.load_state_dict(state_dict_in(payload), strict=strict, assign=False)
    return module if dtype is None else module.to(dtype)


def built(build: Build, device: torch.device) -> nn.Module:
    """A fresh module, made on its device: ``Module.to`` unties. One on several devices stays so."""
    if device == torch.empty(0).device:  # the ambient one
        return build()
    with device:
        module = build()
    spread = any(p.device not in (device, torch.device("cpu")) for p in module.parameters())
    return module if spread else module.to(device)


def eager_resume(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The same for training: module first, then its optimizer, then the optimizer's state."""
    payload = torch.load(path, map_location=device, weights_only=True, mmap=False)
    module = built(build, device)
    module.load_state_dict(payload["model"], strict=True, assign=False)
    optimizer = make_optimizer(module)
    optimizer.load_state_dict(payload["optimizer"])
    return module, optimizer


def state_dict_in(payload: Any) -> Mapping[str, Any]:
    """The state dict that a file's payload is, or holds under one of its keys.

    Raises ``ValueError`` where it holds none, or more than one.
    """
    if not isinstance(payload, Mapping):
        raise ValueError(f"the file holds a {type(payload).__name__}, not a state dict")
    if _is_state(payload):
        return payload
    inside = [key for key, value in payload.items() if _is_state(value) and value]
    if len(inside) == 1:
        state: Mapping[str, Any] = payload[inside[0]]
        return state
    found = f"state dicts under {inside}" if inside else "no state dict"
    raise ValueError(f"the file holds {found} among the keys {list(payload)[:12]}")


def _is_state(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    named = all(isinstance(key, str) for key in value)
    return named and (not value or any(isinstance(v, torch.Tensor) for v in value.values()))
