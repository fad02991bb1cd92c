"""The same loader, called under other default devices.

Apart from the other second loads because it is asked by promise alone: where a loader runs is the
caller's to say, and most are never called inside ``with torch.device(…)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from pytest_ckptload.examine.loads import Loaded
from pytest_ckptload.observe import observe
from pytest_ckptload.observe.tensors import same_tensor
from pytest_ckptload.printable import described
from pytest_ckptload.rules import Ambient

__all__ = ["under_defaults"]


def under_defaults(load: Callable[[], Loaded], device: torch.device) -> Ambient:
    """What is otherwise under a default device than with none, for meta, the CPU and ``device``."""
    plain = load().returned
    if not isinstance(plain, nn.Module):
        return Ambient()
    unlike: dict[str, str] = {}
    for default in dict.fromkeys((torch.device("meta"), torch.device("cpu"), device)):
        with default:
            loaded = load()
        if (difference := _difference(plain, loaded)) is not None:
            unlike[str(default)] = difference
    return Ambient(unlike)


def _difference(plain: nn.Module, loaded: Loaded) -> str | None:
    if loaded.error is not None:
        return f"it raised {described(loaded.error)}"
    if not isinstance(loaded.returned, nn.Module):
        return f"it returned a {type(loaded.returned).__name__}"
    places = observe(loaded.returned).places
    for name, place in observe(plain).places.items():
        if name not in places:
            return f"there is no {name}"
        there, here = places[name].tensor, place.tensor
        if there.device != here.device:
            return f"{name} is on {there.device}, otherwise on {here.device}"
        if not (here.is_meta or place.lazy or same_tensor(there, here)):
            return f"{name} has other values"
    return None
