"""The accelerator of this machine, with ``torch.accelerator``, or without: it came with 2.6.

Apart from the devices that a user names because the state of torch and its seeds ask for it alone.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["accelerator", "count", "synchronise"]

_KNOWN = hasattr(torch, "accelerator")


def accelerator() -> torch.device | None:
    """The kind of accelerator that is there, without an index."""
    if _KNOWN:
        there = torch.accelerator.is_available()
        return torch.accelerator.current_accelerator() if there else None
    kinds = ("cuda", "xpu", "mps", torch._C._get_privateuse1_backend_name())
    return next((torch.device(kind) for kind in kinds if _devices_of(kind)), None)


def count() -> int:
    """How many devices it has."""
    if _KNOWN:
        return torch.accelerator.device_count()
    kind = accelerator()
    return 0 if kind is None else _devices_of(kind.type)


def synchronise(device: torch.device) -> None:
    """Wait for all that was set going on a device of its kind."""
    if _KNOWN:
        torch.accelerator.synchronize(device)
    else:
        getattr(torch, device.type).synchronize()


def _devices_of(kind: str) -> int:
    module: Any = getattr(torch, kind, None)
    return int(module.device_count()) if hasattr(module, "device_count") else 0
