"""What broken loaders and their correct siblings have in common: reading, and careful loading.

Apart so that the files of faults share it, and each holds faults alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from pytest_ckptload.loader import Build

__all__ = [
    "Change",
    "Tensors",
    "assigned",
    "keeps_everything",
    "loads_without_strict",
    "read_state",
]

Tensors = Mapping[str, torch.Tensor]
Change = Callable[[str, torch.Tensor], torch.Tensor]


def read_state(path: Path, device: torch.device, *, mapped: bool = True) -> Tensors:
    """The state dict in the file."""
    state: Tensors = torch.load(path, map_location=device, weights_only=True, mmap=mapped)
    return state


def assigned(build: Build, path: Path, device: torch.device, change: Change) -> nn.Module:
    """Build as ever, then give each name what ``change`` makes of its entry, ties kept."""
    state = read_state(path, device)
    module = build().to(device)
    module.load_state_dict(state)  # refuses what does not fit, and copies
    done: set[int] = set()
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if isinstance(tensor, torch.Tensor) and id(tensor) not in done:
                done.add(id(tensor))
                tensor.copy_(change(name, tensor.detach().clone()))
    return module


def keeps_everything(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Map, and copy into the module's own tensors: right."""
    return assigned(build, path, device, lambda name, tensor: tensor)


def loads_without_strict(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Map, and copy what there is: right for whoever does not promise to be strict."""
    module = build().to(device)
    module.load_state_dict(read_state(path, device), strict=False)
    return module
