"""Torch's documented fast way, and each half of it alone.

Source: the PyTorch recipe "Tips for Loading an nn.Module from a Checkpoint".
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from pytest_ckptload.loader import Build, MakeOptimizer
from pytest_ckptload.recipes.eager import built, state_dict_in

__all__ = ["meta_assign", "mmap", "mmap_meta_assign", "mmap_meta_assign_resume"]


def mmap(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Map the file, build the module on its device, copy."""
    payload = torch.load(path, map_location=device, weights_only=True, mmap=True)
    module = built(build, device)
    module.load_state_dict(state_dict_in(payload), strict=True, assign=False)
    return module


def meta_assign(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Read the file, build the module on meta, assign."""
    return _meta_assign(build, path, device, mapped=False)


def mmap_meta_assign(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Map the file, build the module on meta, assign."""
    return _meta_assign(build, path, device, mapped=True)


def _meta_assign(build: Build, path: Path, device: torch.device, mapped: bool) -> nn.Module:
    payload = torch.load(path, map_location=device, weights_only=True, mmap=mapped)
    with torch.device("meta"):
        module = build()
    module.load_state_dict(state_dict_in(payload), strict=True, assign=True)
    return module


def mmap_meta_assign_resume(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The same for training; the optimizer is made after the load, as assigning demands."""
    payload = torch.load(path, map_location=device, weights_only=True, mmap=True)
    with torch.device("meta"):
        module = build()
    module.load_state_dict(payload["model"], strict=True, assign=True)
    optimizer = make_optimizer(module)
    optimizer.load_state_dict(payload["optimizer"])
    return module, optimizer
