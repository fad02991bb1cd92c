"""Faults of resumers, CKPT5xx: optimizers that refer to other tensors, or lost what they knew.

Apart from the loaders because the optimizer is what is wrong, in a module that may be right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import after, resumer
from pytest_ckptload.faults.parts import parameters_anew, same_type
from pytest_ckptload.loader import Build, MakeOptimizer

__all__: list[str] = []

Resumed = tuple[nn.Module, torch.optim.Optimizer]


def _payload(path: Path, device: torch.device) -> Any:
    return torch.load(path, map_location=device, weights_only=True, mmap=True)


def _made_first(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device, assign: bool
) -> Resumed:
    payload = _payload(path, device)
    module = build().to(device)
    optimizer = make_optimizer(module)
    optimizer.load_state_dict(payload["optimizer"])
    module.load_state_dict(payload["model"], assign=assign)
    return module, optimizer


def makes_the_optimizer_first_and_copies(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    return _made_first(build, make_optimizer, path, device, assign=False)


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
    return _made_first(build, make_optimizer, path, device, assign=True)


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


@resumer(
    "CKPT505",
    "NVIDIA-NeMo/Megatron-Bridge#5680",
    sibling=makes_the_optimizer_first_and_copies,
    features=("scalar",),
    beyond=("lazy",),
)
def forgets_the_state(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """The optimizer is made anew, and has the state that it begins with."""
    module = build().to(device)
    module.load_state_dict(_payload(path, device)["model"])
    return module, make_optimizer(module)


def _tensors(optimizer: Any) -> Any:
    """Every floating tensor of the state but the step, with the dict that holds it and its key."""
    for state in optimizer.state.values():
        for key, value in list(state.items()):
            if isinstance(value, torch.Tensor) and value.is_floating_point() and key != "step":
                yield state, key, value


@after("CKPT505", "vllm-project/speculators#899", training=True, features=("scalar",))
def rounds_the_state(module: nn.Module, optimizer: Any) -> None:
    """The state was saved in half precision, and only its dtype comes back."""
    for state, key, value in _tensors(optimizer):
        state[key] = value.bfloat16().to(value.dtype)


@after("CKPT505", "pytorch/torchtitan#4615", "pytorch/ao#3314", training=True, features=("scalar",))
def casts_the_state(module: nn.Module, optimizer: Any) -> None:
    """The state comes back in another dtype."""
    for state, key, value in _tensors(optimizer):
        state[key] = value.double()


@after("CKPT505", "pytorch/pytorch#118326", training=True, features=("scalar",))
def makes_a_number_of_the_step(module: nn.Module, optimizer: Any) -> None:
    """The count of steps comes back as a number, not as a tensor."""
    for state in optimizer.state.values():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = float(state["step"])


@after("CKPT505", "optimizedlearning/mechanic#2", training=True, features=("scalar",))
def keeps_state_by_object(module: nn.Module, optimizer: Any) -> None:
    """State is kept by tensor objects, and found by no other than those that it was saved with."""
    for parameter in list(optimizer.state):
        optimizer.state[parameter.detach().clone()] = optimizer.state.pop(parameter)


@after(
    "CKPT505",
    "pytorch/pytorch#1489",
    "pytorch/pytorch#134107",
    training=True,
    features=("groups", "mixed-dtype"),
)
def matches_state_by_position(module: nn.Module, optimizer: Any) -> None:
    """State is given to parameters in their order, which is another than when it was saved."""
    keys = list(optimizer.state)
    states = [optimizer.state[key] for key in keys]
    for key, state in zip(keys, reversed(states), strict=True):
        optimizer.state[key] = state


@after("CKPT508", "pytorch/pytorch#129079", training=True, features=("scalar",))
def forgets_the_learning_rate(module: nn.Module, optimizer: Any) -> None:
    """Groups keep the learning rate that they were made with, not the one that was saved."""
    for group in optimizer.param_groups:
        group["lr"] = 1e-3


@resumer("CKPT803", "pytorch/pytorch#192224", features=("partial-state",))
def asks_every_parameter_for_its_step(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """State is asked for by parameter, though one that never had a gradient has none."""
    module, optimizer = _made_first(build, make_optimizer, path, device, assign=False)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            float(optimizer.state.get(parameter, {}).get("step", {}))
    return module, optimizer
