"""Faults of values that are not the file's, CKPT102 and 104: memory that nobody wrote to, and what
construction gave.

Apart from values that are misread: here nobody reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import after, around, loader
from pytest_ckptload.faults.parts import (
    buffers_of,
    keeps_everything,
    loads_without_strict,
    read_state,
)
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


@loader(
    "CKPT102",
    "huggingface/transformers#45902",
    "huggingface/pytorch-image-models#2350",
    sibling=keeps_everything,
    features=("buffer-nonpersistent",),
)
def leaves_to_empty_unfilled(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The module is built on meta and given empty memory, of which the file fills what it holds."""
    state = read_state(path, device)
    with torch.device("meta"):
        module = build()
    module.to_empty(device=device)
    module.load_state_dict(state)
    return module


@after(
    "CKPT102",
    "huggingface/transformers#48892",
    "pytorch/pytorch#148843",
    features=("buffer-nonpersistent",),
)
def empties_tables(module: nn.Module) -> None:
    """What no file holds is made anew with `empty_like`."""
    for part, name, buffer in buffers_of(module):
        if name in part._non_persistent_buffers_set and buffer.layout == torch.strided:
            part._buffers[name] = torch.empty_like(buffer)


@loader(
    "CKPT102",
    "huggingface/transformers#30953",
    "huggingface/transformers#46014",
    sibling=loads_without_strict,
    features=("missing-key",),
)
def leaves_missing_parameters_empty(build: Build, path: Path, device: torch.device) -> nn.Module:
    """What is missing from the file is created empty, and filled for classes that are known."""
    module = loads_without_strict(build, path, device)
    missing = build().load_state_dict(read_state(path, device), strict=False).missing_keys
    tensors = module.state_dict(keep_vars=True)
    for name in missing:
        tensors[name].data = torch.empty_like(tensors[name].data)
    return module


def _again(module: nn.Module, fresh: nn.Module, names: Any) -> None:
    """Give these names the values that construction gives them."""
    built = fresh.state_dict()
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if name in names and tensor.layout == torch.strided:
                tensor.copy_(built[name])


@around(
    "CKPT104",
    "huggingface/transformers#24576",
    "pytorch/pytorch#84053",
    features=("buffer-computed",),
)
def computes_buffers_again(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """Buffers have the values that construction computes, not those that the file holds."""
    module: nn.Module = load(build, path, device)
    _again(module, build(), dict(module.named_buffers(remove_duplicate=False)))
    return module


@around(
    "CKPT104",
    "RobTand/prismaquant#968",
    "huggingface/transformers#40001",
    features=("scalar",),
)
def initialises_afterwards(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """An initialiser runs over the loaded module, and writes to its weights directly."""
    module: nn.Module = load(build, path, device)
    _again(module, build(), dict(module.named_parameters(remove_duplicate=False)))
    return module


@loader(
    "CKPT104", "vllm-project/vllm#51063", sibling=loads_without_strict, features=("tied-buffer",)
)
def takes_the_second_for_tied(build: Build, path: Path, device: torch.device) -> nn.Module:
    """An entry of a shape that another had is skipped: it is taken for a tied one."""
    shapes = set()
    state = {}
    for name, tensor in read_state(path, device).items():
        if tensor.shape not in shapes:
            shapes.add(tensor.shape)
            state[name] = tensor
    module = built(build, device)
    module.load_state_dict(state, strict=False)
    return module


@loader(
    "CKPT104",
    "huggingface/transformers#33679",
    "huggingface/transformers#31970",
    features=("load-hooks", "parametrized"),
)
def sets_tensors_by_name(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Entries are copied name by name, so that hooks of the module which rename them never run."""
    module = built(build, device)
    tensors = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in read_state(path, device).items():
            if name in tensors:
                tensors[name].copy_(tensor.view(tensors[name].shape))
    return module
