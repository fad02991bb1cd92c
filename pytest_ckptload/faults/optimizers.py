"""Faults of resumers, CKPT501 to CKPT504: optimizers that refer to other tensors, in other groups,
and one that steps with other state, CKPT508.

Apart from the loaders because the optimizer is what is wrong, in a module that may be right.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import after, resumer
from pytest_ckptload.faults.parts import parameters_anew, same_type
from pytest_ckptload.faults.resumed import (
    Resumed,
    Wrapper,
    made_first,
    makes_the_optimizer_first_and_copies,
    read_payload,
)
from pytest_ckptload.loader import Build, MakeOptimizer
from pytest_ckptload.recipes import eager_resume

__all__: list[str] = []


@resumer(
    "CKPT501",
    "pytorch/pytorch#102212",
    "pytorch/pytorch#121158",
    sibling=makes_the_optimizer_first_and_copies,
    features=("scalar",),
    beyond=("lazy",),
)
def makes_the_optimizer_first(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """The optimizer is made before the load, which replaces the parameters that it refers to."""
    return made_first(build, make_optimizer, path, device, assign=True)


@after("CKPT501", "huggingface/accelerate#3256", training=True, features=("scalar",))
def wraps_after_the_optimizer(module: nn.Module, optimizer: Any) -> None:
    """A wrapper replaces the parameters once the optimizer is made."""
    parameters_anew(module, same_type)


@after("CKPT501", "pfnet/pytorch-pfn-extras#187", training=True, features=("scalar",))
def tracks_what_was_replaced(module: nn.Module, optimizer: Any) -> None:
    """A parameter was registered anew, and the optimizer goes on with the old one besides."""
    old = nn.Parameter(torch.zeros(1))
    optimizer.param_groups[-1]["params"].append(old)


@after("CKPT502", "pytorch/pytorch#143828", training=True, features=("groups",))
def drops_the_last_group(module: nn.Module, optimizer: Any) -> None:
    """Of several groups the last does not come back."""
    if len(optimizer.param_groups) > 1:
        optimizer.param_groups.pop()


@after("CKPT502", "huggingface/accelerate#3835", training=True, features=("scalar",))
def drops_the_last_parameter(module: nn.Module, optimizer: Any) -> None:
    """The optimizer's groups are mapped to the new parameters, but for the last."""
    optimizer.param_groups[-1]["params"].pop()


@after("CKPT503", "pytorch/pytorch#128011", training=True, features=("scalar",))
def adds_parameters_twice(module: nn.Module, optimizer: Any) -> None:
    """A parameter is added under each of its names."""
    optimizer.param_groups[0]["params"] *= 2


def wraps_what_is_made_last(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """A wrapper whose groups are those of the optimizer inside: right."""
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    return module, Wrapper(optimizer, optimizer.param_groups, optimizer.state)


@resumer(
    "CKPT501",
    "huggingface/accelerate#3835",
    sibling=wraps_what_is_made_last,
    features=("scalar",),
)
def wraps_what_was_made_first(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """A wrapper has the groups of now, and steps an optimizer that was made before the load."""
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    _, inner = made_first(build, make_optimizer, path, device, assign=True)
    return module, Wrapper(inner, optimizer.param_groups, optimizer.state)


class _Planned(Wrapper):
    """A step that was captured with some state, and takes that whenever it is called."""

    def __init__(self, optimizer: Any, planned: Any) -> None:
        super().__init__(optimizer, optimizer.param_groups, optimizer.state)
        self.planned = planned

    def step(self, closure: Any = None) -> Any:
        """Step with what was planned with."""
        loaded, self.optimizer.state = self.optimizer.state, self.planned
        try:
            return super().step(closure)
        finally:
            self.optimizer.state = loaded


def plans_with_what_is_loaded(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    return module, _Planned(optimizer, optimizer.state)


@resumer(
    "CKPT508",
    "pytorch/pytorch#147288",
    sibling=plans_with_what_is_loaded,
    features=("scalar",),
)
def plans_before_it_loads(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """A step is captured with the state that is there, and goes on with it, though loading puts
    other tensors in its place.
    """
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    planned = copy.deepcopy(optimizer.state_dict())
    for value in (v for state in planned["state"].values() for v in state.values()):
        if isinstance(value, torch.Tensor):
            value.zero_()
    optimizer.load_state_dict(planned)
    held = optimizer.state
    optimizer.load_state_dict(read_payload(path, device)["optimizer"])
    return module, _Planned(optimizer, held)


@resumer("CKPT501", "pytorch/pytorch#149205", features=("scalar",))
def makes_the_optimizer_of_gathered_parameters(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """Other parameters stand in for the module's during a forward, and the optimizer has those."""
    module, _ = eager_resume(build, make_optimizer, path, device)
    gathered = copy.deepcopy(module)
    optimizer = make_optimizer(gathered)
    optimizer.load_state_dict(read_payload(path, device)["optimizer"])
    return module, optimizer


@after("CKPT504", "pytorch/pytorch#129079", training=True, features=("scalar",))
def forgets_the_learning_rate(module: nn.Module, optimizer: Any) -> None:
    """Groups keep the learning rate that they were made with, not the one that was saved."""
    for group in optimizer.param_groups:
        group["lr"] = 1e-3


@after("CKPT504", "pytorch/pytorch#143828", training=True, features=("empty-group",))
def forgets_what_an_empty_group_says(module: nn.Module, optimizer: Any) -> None:
    """A group without parameters comes back without its settings."""
    for group in optimizer.param_groups:
        if not group["params"]:
            for key in [key for key in group if key != "params"]:
                del group[key]


@after(
    "CKPT504",
    "roytseng-tw/Detectron.pytorch#118",
    "facebookresearch/fairscale#380",
    training=True,
    features=("mixed-dtype",),
)
def orders_parameters_by_chance(module: nn.Module, optimizer: Any) -> None:
    """Groups are made of a dictionary, in whose order the next state is saved."""
    for group in optimizer.param_groups:
        group["params"].reverse()
