"""The protocols of the code under test: loaders and resumers.

Apart from everything else so that a project can annotate its loader without importing torch, pytest
or Hypothesis at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "Build",
    "Inputs",
    "Loader",
    "MakeOptimizer",
    "MakeScheduler",
    "Resumer",
    "Save",
    "loader_name",
]

Build = Callable[[], "nn.Module"]
"""Makes a fresh module each time it is called."""

Inputs = Callable[[], Any]
"""Makes what a module is called with: an argument, a tuple of them, or a dict by keyword."""

MakeOptimizer = Callable[["nn.Module"], "torch.optim.Optimizer"]
"""Makes a fresh optimizer for a module."""

MakeScheduler = Callable[["torch.optim.Optimizer"], Any]
"""Makes a fresh scheduler of the learning rates of an optimizer."""

Save = Callable[["nn.Module", Path], object]
"""Writes a module to a path, in whatever format the loader under test reads."""


class Loader(Protocol):
    """Loads the checkpoint at ``path`` into a module made by ``build``, on ``device``."""

    def __call__(self, build: Build, path: Path, device: torch.device, /) -> nn.Module: ...


class Resumer(Protocol):
    """Does the same for training: the file holds ``{"model": …, "optimizer": …}``."""

    def __call__(
        self, build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device, /
    ) -> tuple[nn.Module, torch.optim.Optimizer]: ...


def loader_name(loader: Callable[..., Any]) -> str:
    """The name to show for a loader: a function's own, else its type's."""
    inner = loader
    while hasattr(inner, "func"):
        inner = inner.func
    return getattr(inner, "__name__", None) or type(inner).__name__
