"""Faults of aliasing, CKPT4xx: ties that come apart, and memory that is shared where none was.

Apart from the values, which may be right all the same, for now.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import after, around, loader
from pytest_ckptload.faults.parts import (
    ANEW,
    HELD,
    PLAIN,
    buffers_of,
    clones_parameters,
    keeps_everything,
    kept_state,
    read_state,
    registers_anew,
    same_type,
)
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes import eager
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


@after(
    "CKPT401",
    "huggingface/accelerate#1197",
    "pytorch/pytorch#188346",
    right=registers_anew,
    features=("tied",),
    beyond=ANEW,
)
def unties(module: nn.Module) -> None:
    """Each name is given a Parameter of its own, over the same memory."""
    for part in module.modules():
        for name, old in list(part._parameters.items()):
            if old is not None:
                setattr(part, name, same_type(old))


@after(
    "CKPT401",
    "ModelCloud/GPTQModel#1119",
    "NVIDIA-NeMo/Automodel#2511",
    right=registers_anew,
    features=("tied",),
    beyond=ANEW,
)
def loads_into_separate_tensors(module: nn.Module) -> None:
    """Each name is loaded into memory of its own, and nobody ties them again."""
    for part in module.modules():
        for name, old in list(part._parameters.items()):
            if old is not None:
                made = same_type(old)
                made.data = made.data.clone()
                setattr(part, name, made)


@after(
    "CKPT401",
    "TransformerLensOrg/TransformerLens#1637",
    features=("view-parameter",),
)
def detaches_views(module: nn.Module) -> None:
    """Parameters that are parts of another's memory are given their own."""
    clones_parameters(module)


@after(
    "CKPT401",
    "huggingface/accelerate#3668",
    features=("tied-buffer",),
)
def unties_buffers(module: nn.Module) -> None:
    """Each buffer is registered anew, under each of its names."""
    for part in module.modules():
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = buffer.clone()


def _recurrent() -> nn.Module:
    return nn.LSTM(2, 2)


def _registered(build: Build, path: Path, device: torch.device, tell: bool) -> nn.Module:
    """Register loaded parameters, and ``tell`` the layers so, or not."""
    module, loaded = built(build, device), eager(build, path, device)
    for part, other in zip(module.modules(), loaded.modules(), strict=True):
        for name, parameter in other._parameters.items():
            if tell:
                setattr(part, name, parameter)
            else:
                part._parameters[name] = parameter
    return module


def tells_recurrent_layers(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _registered(build, path, device, tell=True)


@loader(
    "CKPT401",
    "pytorch/pytorch#91111",
    sibling=tells_recurrent_layers,
    given={"build": _recurrent},
)
def keeps_flat_weights(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Recurrent layers go on with the list of weights that they made at construction."""
    return _registered(build, path, device, tell=False)


@after(
    "CKPT402",
    "huggingface/accelerate#4083",
    "huggingface/transformers#46749",
    right=registers_anew,
    features=("shared-module",),
    beyond=ANEW,
)
def ties_by_pointer(module: nn.Module) -> None:
    """Tensors are taken for tied whose addresses agree, and on meta all are zero."""
    made: dict[tuple[object, ...], nn.Parameter] = {}
    for part in module.modules():
        for name, old in list(part._parameters.items()):
            if old is not None:
                setattr(part, name, made.setdefault((old.shape, old.dtype), old))


@after(
    "CKPT402",
    "huggingface/transformers#42612",
    features=("shared-module",),
)
def ties_what_is_not_tied(module: nn.Module) -> None:
    """A flag says that two weights are tied, and so they are, though the file has one for each."""
    made: dict[tuple[object, ...], torch.Tensor] = {}
    for parameter in module.parameters():
        if parameter.numel():
            parameter.data = made.setdefault((parameter.shape, parameter.dtype), parameter.data)


def _backs_all_by_one_buffer(module: nn.Module) -> None:
    """One flat buffer for each dtype behind the parameters, side by side: they are independent all
    the same.
    """
    _flat(module, gap=0)


@after(
    "CKPT402",
    "PrimeIntellect-ai/prime-rl#937",
    right=_backs_all_by_one_buffer,
    features=("shared-module",),
    beyond=HELD,
)
def overlaps_in_one_buffer(module: nn.Module) -> None:
    """One flat buffer is behind all parameters, and each begins one element too early."""
    _flat(module, gap=-1)


def _flat(module: nn.Module, gap: int) -> None:
    by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.is_contiguous():
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
    for dtype, parameters in by_dtype.items():
        count = sum(p.numel() for p in parameters)
        buffer = torch.zeros(count, dtype=dtype, device=parameters[0].device)
        offset = 0
        for parameter in parameters:
            part = buffer[offset : offset + parameter.numel()]
            part.copy_(parameter.data.view(-1))
            parameter.data = part.view(parameter.shape)
            offset = max(0, offset + parameter.numel() + gap)


@loader("CKPT402", "pytorch/pytorch#158080", sibling=keeps_everything, features=("views",))
def keeps_views_of_one_storage(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Entries that overlap in the file are assigned, and overlap in the module."""
    module = built(build, device)
    module.load_state_dict(read_state(path, device), assign=True)
    return module


_LAST: dict[Path, nn.Module] = {}


@around("CKPT403", "pytorch/pytorch#196083", given=PLAIN)
def shares_between_loads(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """What was read is kept, and handed out again to the next load of the same file."""
    module: nn.Module = load(build, path, device)
    if path in _LAST:
        for mine, kept in zip(module.parameters(), _LAST[path].parameters(), strict=True):
            mine.data = kept.data
    _LAST.clear()
    _LAST[path] = module
    return module


_TABLES: dict[Any, torch.Tensor] = {}


def _tables(module: nn.Module) -> Iterator[tuple[nn.Module, str, torch.Tensor]]:
    """The buffers that no file holds."""
    for part, name, buffer in buffers_of(module):
        fleeting = name in part._non_persistent_buffers_set
        if fleeting and buffer.layout == torch.strided and not buffer.is_meta:
            yield part, name, buffer


def _has_tables_of_its_own(module: nn.Module) -> None:
    for _, _, buffer in _tables(module):
        buffer.data = buffer.data.clone()


@after(
    "CKPT403",
    "sgl-project/sglang#33575",
    right=_has_tables_of_its_own,
    beyond=HELD,
    features=("buffer-nonpersistent",),
)
def shares_tables_of_the_process(module: nn.Module) -> None:
    """What no file holds is made once in a process, and all models that have the same share it."""
    for part, name, buffer in _tables(module):
        contents = bytes(buffer.reshape(-1).view(torch.uint8).tolist())
        key = (tuple(buffer.shape), buffer.dtype, contents)
        part._buffers[name] = _TABLES.setdefault(key, buffer)


def _tried(
    build: Build, tried: Mapping[str, Any], state: Mapping[str, Any], device: torch.device
) -> nn.Module:
    """A module on meta shows whether what is ``tried`` fits, before ``state`` is copied."""
    with torch.device("meta"):
        build().load_state_dict(tried, assign=True)
    module = built(build, device)
    module.load_state_dict(state)
    return module


def tries_a_copy(build: Build, path: Path, device: torch.device) -> nn.Module:
    state = kept_state(path, device)
    return _tried(build, copy.deepcopy(state), state, device)


@loader("CKPT403", "pytorch/pytorch#188166", sibling=tries_a_copy, given=PLAIN)
def tries_what_it_keeps(build: Build, path: Path, device: torch.device) -> nn.Module:
    """What was read is kept, and assigned once for a try: torch notes that in the metadata, and all
    later loads assign.
    """
    state = kept_state(path, device)
    return _tried(build, state, state, device)


@loader("CKPT404", "tracel-ai/burn#5383", sibling=keeps_everything, features=("expanded",))
def keeps_entries_expanded(build: Build, path: Path, device: torch.device) -> nn.Module:
    """An expanded entry is assigned as it is: its elements are one and the same in memory."""
    module = built(build, device)
    module.load_state_dict(read_state(path, device), assign=True)
    return module
