"""Faults of what comes to lie on meta, CKPT303, by way of what was there before it.

Apart from the faults of structure, where something is not loaded: here it is, and then put on meta,
or taken from there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import after, loader
from pytest_ckptload.faults.parts import keeps_everything, read_state
from pytest_ckptload.faults.writers import normed
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []

_META = torch.device("meta")


def _is_saved(part: nn.Module) -> bool:
    """Whether a file holds anything of this part, or of those inside."""
    return any(
        inner._parameters or inner._buffers.keys() - inner._non_persistent_buffers_set
        for inner in part.modules()
    )


@after("CKPT303", "deepspeedai/DeepSpeed#8479", features=("buffer-nonpersistent",))
def skips_parts_without_keys(module: nn.Module) -> None:
    """Parts that the file has no key for are skipped, and their buffers stay on meta."""
    for part in module.modules():
        if not _is_saved(part):
            for name, buffer in part._buffers.items():
                part._buffers[name] = None if buffer is None else buffer.to(_META)


@loader("CKPT303", "pytorch/pytorch#130792", sibling=keeps_everything, features=("scalar",))
def makes_tensors_under_meta(build: Build, path: Path, device: torch.device) -> nn.Module:
    """What was read goes through `as_tensor` where the module is built: the context of meta takes
    it there.
    """
    state = read_state(path, device)
    with _META:
        module = build()
        entries = {name: torch.as_tensor(value) for name, value in state.items()}
    module.load_state_dict(entries, assign=True)
    return module


Where = Callable[[nn.Module], torch.device]


def _moves_buffers(build: Build, path: Path, device: torch.device, where: Where) -> nn.Module:
    """Assign what the file holds, each buffer once it was moved to ``where`` its part is."""
    with _META:
        module = build()
    state = dict(read_state(path, device))
    for name, value in state.items():
        prefix, _, own = name.rpartition(".")
        part = module.get_submodule(prefix)
        if own in part._buffers:
            state[name] = value.to(where(part))
    module.load_state_dict(state, assign=True)
    return module


def moves_to_where_it_loads(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _moves_buffers(build, path, device, lambda part: device)


def _of_parameters(part: nn.Module) -> torch.device:
    return next(part.parameters()).device


@loader(
    "CKPT303",
    "huggingface/peft#2834",
    sibling=moves_to_where_it_loads,
    given={"build": normed},
    beyond=("expanded", "parameters-saved", "views"),
)
def moves_to_where_its_neighbour_is(build: Build, path: Path, device: torch.device) -> nn.Module:
    """What is loaded is moved to the device of the weights beside it, which are on meta still."""
    return _moves_buffers(build, path, device, _of_parameters)


def _adds_counters(state: Any, module: nn.Module) -> None:
    """Give the state dict those counters of the module that older files lack."""
    for name, buffer in module.named_buffers():
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, buffer)


def counts_from_zero(build: Build, path: Path, device: torch.device) -> nn.Module:
    state = read_state(path, device)
    module = built(build, device)
    _adds_counters(state, module)
    module.load_state_dict(state)
    return module


@loader("CKPT303", "pytorch/pytorch#115285", sibling=counts_from_zero, features=("old-version",))
def keeps_the_counter_of_meta(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Counters that older files lack are those of the module, which was built on meta."""
    state = read_state(path, device)
    with _META:
        module = build()
    _adds_counters(state, module)
    module.load_state_dict(state, assign=True)
    return module
