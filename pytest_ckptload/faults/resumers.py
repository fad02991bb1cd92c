"""Broken resumers, in the order of the rules that catch them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import Fault
from pytest_ckptload.loader import Build, MakeOptimizer
from pytest_ckptload.recipes import eager_resume

__all__ = ["RESUMER_FAULTS"]

Resumed = tuple[nn.Module, torch.optim.Optimizer]


def _payload(path: Path, device: torch.device) -> Any:
    return torch.load(path, map_location=device, weights_only=True, mmap=True)


def makes_the_optimizer_first(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    payload = _payload(path, device)
    module = build().to(device)
    optimizer = make_optimizer(module)
    optimizer.load_state_dict(payload["optimizer"])
    module.load_state_dict(payload["model"], assign=True)
    return module, optimizer


def makes_the_optimizer_first_and_copies(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    payload = _payload(path, device)
    module = build().to(device)
    optimizer = make_optimizer(module)
    optimizer.load_state_dict(payload["optimizer"])
    module.load_state_dict(payload["model"])
    return module, optimizer


def drops_the_last_parameter(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    optimizer.param_groups[-1]["params"].pop()
    return module, optimizer


def adds_parameters_twice(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    optimizer.param_groups[0]["params"] *= 2
    return module, optimizer


def forgets_the_state(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    module = build().to(device)
    module.load_state_dict(_payload(path, device)["model"])
    return module, make_optimizer(module)


def forgets_the_learning_rate(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    return module, optimizer


RESUMER_FAULTS = (
    Fault(
        "CKPT501",
        makes_the_optimizer_first,
        makes_the_optimizer_first_and_copies,
        ("pytorch/pytorch#102212", "pytorch/pytorch#121158"),
        training=True,
    ),
    Fault(
        "CKPT502",
        drops_the_last_parameter,
        eager_resume,
        ("huggingface/accelerate#3256",),
        training=True,
    ),
    Fault(
        "CKPT503", adds_parameters_twice, eager_resume, ("pytorch/pytorch#128011",), training=True
    ),
    Fault(
        "CKPT505",
        forgets_the_state,
        makes_the_optimizer_first_and_copies,
        ("NVIDIA-NeMo/Megatron-Bridge#5680",),
        training=True,
    ),
    Fault(
        "CKPT508",
        forgets_the_learning_rate,
        eager_resume,
        ("pytorch/pytorch#129079",),
        training=True,
    ),
)
