"""Faults of resumers that leave all to torch, CKPT510 and 511: state is cast, or given to others.

Apart from the other resumers because these are what torch documents, and each has a sibling that
does by itself what torch leaves to its callers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pytest_ckptload.faults.fault import resumer
from pytest_ckptload.loader import Build, MakeOptimizer
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


def _resumed(
    build: Build,
    make_optimizer: MakeOptimizer,
    path: Path,
    device: torch.device,
    load: Callable[[Any, Any], None],
) -> Any:
    payload = torch.load(path, map_location=device, weights_only=True, mmap=False)
    module = built(build, device)
    module.load_state_dict(payload["model"])
    optimizer = make_optimizer(module)
    load(optimizer, payload["optimizer"])
    return module, optimizer


def _load(optimizer: Any, saved: Any) -> None:
    optimizer.load_state_dict(saved)


def _load_without_casting(optimizer: Any, saved: Any) -> None:
    optimizer.load_state_dict(saved)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    keys = [key for group in saved["param_groups"] for key in group["params"]]
    for key, parameter in zip(keys, held, strict=True):
        if key in saved["state"]:
            optimizer.state[parameter] = dict(saved["state"][key])


def _load_by_name(optimizer: Any, saved: Any) -> None:
    saved = copy.copy(saved)
    old = [group.get("param_names", []) for group in saved["param_groups"]]
    new = [group.get("param_names", []) for group in optimizer.param_groups]
    if any(new):
        groups = zip(saved["param_groups"], old, new, strict=True)
        saved["param_groups"] = [_in_order(group, *names) for group, *names in groups]
    optimizer.load_state_dict(saved)


def _in_order(group: dict[str, Any], old: list[str], new: list[str]) -> dict[str, Any]:
    keys = dict(zip(old, group["params"], strict=True))
    return {**group, "params": [keys[name] for name in new], "param_names": new}


def keeps_the_saved_dtypes(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Any:
    return _resumed(build, make_optimizer, path, device, _load_without_casting)


@resumer(
    "CKPT510",
    "pytorch/pytorch#43706",
    "pytorch/torchtitan#4615",
    sibling=keeps_the_saved_dtypes,
    features=("state-dtype",),
    advice=True,
)
def has_the_state_cast(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Any:
    """State is left to torch, which casts it to the dtype of its parameter."""
    return _resumed(build, make_optimizer, path, device, _load)


def matches_state_by_name(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Any:
    return _resumed(build, make_optimizer, path, device, _load_by_name)


@resumer(
    "CKPT511",
    "pytorch/pytorch#1489",
    "pytorch/pytorch#134107",
    sibling=matches_state_by_name,
    features=("reordered-parameters",),
    advice=True,
)
def trusts_the_order_of_parameters(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Any:
    """State is given out in the order of the parameters, though the file has their names."""
    return _resumed(build, make_optimizer, path, device, _load)
