"""The documented fast way with swapped tensors, which keeps the module's own parameter objects.

Apart because it sets a global switch of torch's around the load. Source: the documentation of
``torch.__future__.set_swap_module_params_on_conversion``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from pytest_ckptload.loader import Build, MakeOptimizer
from pytest_ckptload.recipes.eager import state_dict_in

__all__ = ["mmap_meta_swap", "mmap_meta_swap_resume", "swapping"]


@contextmanager
def swapping() -> Iterator[None]:
    """Have ``load_state_dict`` swap the contents of parameters with those that it loads."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


def mmap_meta_swap(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Map the file, build the module on meta, swap each parameter's contents with the file's."""
    payload = torch.load(path, map_location=device, weights_only=True, mmap=True)
    with torch.device("meta"):
        module = build()
    with swapping():
        module.load_state_dict(state_dict_in(payload), strict=True, assign=True)
    return module


def mmap_meta_swap_resume(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The same for training, with the optimizer made before the load, which swapping allows."""
    payload = torch.load(path, map_location=device, weights_only=True, mmap=True)
    with torch.device("meta"):
        module = build()
    optimizer = make_optimizer(module)
    with swapping():
        module.load_state_dict(payload["model"], strict=True, assign=True)
    optimizer.load_state_dict(payload["optimizer"])
    return module, optimizer
