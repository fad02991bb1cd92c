"""What broken resumers and their correct siblings have in common: reading, and wrapping.

Apart from what loaders have in common because there are optimizers in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.loader import Build, MakeOptimizer
from pytest_ckptload.recipes.eager import built

__all__ = [
    "Resumed",
    "Wrapper",
    "made_first",
    "makes_the_optimizer_first_and_copies",
    "read_payload",
]

Resumed = tuple[nn.Module, Any]


def read_payload(path: Path, device: torch.device) -> Any:
    """All that is in the file."""
    return torch.load(path, map_location=device, weights_only=True, mmap=True)


def made_first(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device, assign: bool
) -> Resumed:
    """Make the optimizer, and then load the module: right where nothing is assigned."""
    payload = read_payload(path, device)
    module = built(build, device)
    optimizer = make_optimizer(module)
    optimizer.load_state_dict(payload["optimizer"])
    module.load_state_dict(payload["model"], assign=assign)
    return module, optimizer


def makes_the_optimizer_first_and_copies(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """The optimizer first, and then a copy into the parameters that it refers to: right."""
    return made_first(build, make_optimizer, path, device, assign=False)


class Wrapper:
    """An optimizer around another, which it steps, with groups and state that it was given."""

    def __init__(self, optimizer: Any, param_groups: list[dict[str, Any]], state: Any) -> None:
        self.optimizer = optimizer
        self.param_groups = param_groups
        self.state = state

    def step(self, closure: Any = None) -> Any:
        """Step the one inside."""
        return self.optimizer.step() if closure is None else self.optimizer.step(closure)
