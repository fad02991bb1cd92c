"""Faults of resumers, CKPT505 to CKPT509: optimizers that lost what they knew, or share it.

Apart from those that refer to other tensors: here the parameters are the module's own.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import after, resumer
from pytest_ckptload.faults.resumed import (
    Resumed,
    made_first,
    makes_the_optimizer_first_and_copies,
    read_payload,
)
from pytest_ckptload.loader import Build, MakeOptimizer
from pytest_ckptload.recipes import eager_resume
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


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
    module = built(build, device)
    module.load_state_dict(read_payload(path, device)["model"])
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


@after("CKPT506", "pytorch/torchtitan#4615", "pytorch/ao#3314", training=True, features=("scalar",))
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


def _copies_what_it_has_read(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    payload = dict(_read_once(path, device))
    payload["optimizer"] = copy.deepcopy(payload["optimizer"])
    return _of_what_was_read(build, make_optimizer, payload, device)


@resumer(
    "CKPT507",
    "pytorch/pytorch#196083",
    "pytorch/rl#3966",
    sibling=_copies_what_it_has_read,
    beyond=("lazy",),
)
def keeps_what_it_has_read(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """The file is read once, and every optimizer has the very tensors that were read."""
    return _of_what_was_read(build, make_optimizer, _read_once(path, device), device)


def _of_what_was_read(
    build: Build, make_optimizer: MakeOptimizer, payload: Any, device: torch.device
) -> Resumed:
    module = built(build, device)
    module.load_state_dict(payload["model"])
    optimizer = make_optimizer(module)
    optimizer.load_state_dict(payload["optimizer"])
    return module, optimizer


@functools.lru_cache(maxsize=1)
def _read_once(path: Path, device: torch.device) -> Any:
    return read_payload(path, device)


@after("CKPT507", "pytorch/pytorch#196083", training=True, features=("mixed-dtype",))
def counts_steps_in_one_tensor(module: nn.Module, optimizer: Any) -> None:
    """All parameters of an optimizer have one count of steps, which each of them increases."""
    counts = [state for state in optimizer.state.values() if "step" in state]
    for state in counts:
        state["step"] = counts[0]["step"]


class _Beside(torch.optim.Optimizer):
    """An optimizer around another, with groups and state of its own to be saved and loaded."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, inner.defaults)
        self.inner = inner

    def step(self, closure: Any = None) -> Any:
        return self.inner.step(closure)


class _Same(_Beside):
    """The same, and what it has is what the one inside has that was told what to load."""

    def load_state_dict(self, state_dict: Any) -> None:
        self.inner.load_state_dict(state_dict)
        self.param_groups, self.state = self.inner.param_groups, self.inner.state


def _tells_the_optimizer_inside(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    return made_first(build, lambda m: _Same(make_optimizer(m)), path, device, assign=False)


@resumer(
    "CKPT508",
    "mit-ll-responsible-ai/responsible-ai-toolbox#34",
    sibling=_tells_the_optimizer_inside,
    features=("scalar",),
    beyond=("lazy",),
)
def loads_beside_the_optimizer_inside(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """A wrapper loads groups and state of its own, and steps an optimizer that loaded none."""
    return made_first(build, lambda m: _Beside(make_optimizer(m)), path, device, assign=False)


@after(
    "CKPT508", "NVIDIA-NeMo/Megatron-Bridge#5680", training=True, features=("stateless", "scalar")
)
def keeps_the_step_of_a_template(module: nn.Module, optimizer: Any) -> None:
    """A step without gradients makes state to be filled, and where the file has none, it stays."""
    if optimizer.state:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [parameter.detach().clone() for parameter in parameters]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)


def _notes_in_a_copy(optimizer: Any, state_dict: Any) -> Any:
    groups = [{**group, "loaded": True} for group in state_dict["param_groups"]]
    return {**state_dict, "param_groups": groups}


def _notes_in_what_it_is_given(optimizer: Any, state_dict: Any) -> None:
    for group in state_dict["param_groups"]:
        group["loaded"] = True


def _notes_in_a_copy_of_it(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    optimizer.register_load_state_dict_pre_hook(_notes_in_a_copy)
    return module, optimizer


@resumer("CKPT509", "pytorch/pytorch#188166", sibling=_notes_in_a_copy_of_it, features=("scalar",))
def notes_that_it_was_loaded(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """Loading writes a flag into the state dict it is given, which is saved along with it."""
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    optimizer.register_load_state_dict_pre_hook(_notes_in_what_it_is_given)
    return module, optimizer


@resumer("CKPT803", "pytorch/pytorch#192224", features=("partial-state",))
def asks_every_parameter_for_its_step(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """State is asked for by parameter, though one that never had a gradient has none."""
    module, optimizer = made_first(build, make_optimizer, path, device, assign=False)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            float(optimizer.state.get(parameter, {}).get("step", {}))
    return module, optimizer
