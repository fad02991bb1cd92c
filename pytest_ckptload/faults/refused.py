"""Faults of readers that refuse ordinary files, CKPT803: what is in them is not on a list, or is
asked for what it does not have.

Apart from other loads that fail because these fail at reading: what they refuse is right.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from pytest_ckptload.faults.fault import loader, resumer
from pytest_ckptload.faults.parts import keeps_everything, read_state
from pytest_ckptload.faults.resumed import Resumed
from pytest_ckptload.loader import Build, MakeOptimizer
from pytest_ckptload.recipes import eager, eager_resume
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


def asks_a_path_for_its_ending(build: Build, path: Path, device: torch.device) -> nn.Module:
    if path.suffix == ".safetensors":
        raise ValueError("this reads what torch.save writes")
    return eager(build, path, device)


@loader(
    "CKPT803", "pytorch/pytorch#116103", sibling=asks_a_path_for_its_ending, features=("scalar",)
)
def takes_paths_for_strings(build: Build, path: Any, device: torch.device) -> nn.Module:
    """A path is asked what strings are asked."""
    if path.endswith(".safetensors"):
        raise ValueError("this reads what torch.save writes")
    return eager(build, path, device)


def _pickled(path: Path) -> list[tuple[str, str]]:
    """The operations of the pickle in the file, with what each of them names."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
        return [(o.name, str(value)) for o, value, _ in pickletools.genops(archive.read(name))]


_STORAGES = {
    f"torch {name}Storage"
    for name in (
        *("Double", "Float", "Half", "Long", "Int", "Short", "Char", "Byte", "Bool"),
        *("ComplexDouble", "ComplexFloat"),
    )
}


def _looks_up_storages(
    build: Build, path: Path, device: torch.device, listed: Collection[str]
) -> nn.Module:
    for operation, name in _pickled(path):
        storage = operation == "GLOBAL" and re.fullmatch(r"torch \w+Storage", name)
        if storage and name not in listed:
            raise ValueError(f"{name} is not on the list of safe classes")
    return eager(build, path, device)


def lists_all_storages(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _looks_up_storages(build, path, device, {*_STORAGES, "torch BFloat16Storage"})


@loader(
    "CKPT803", "pytorch/pytorch#107529", sibling=lists_all_storages, features=("low-precision",)
)
def lists_few_storages(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The list of classes that a file may name has the storages of all dtypes but bfloat16."""
    return _looks_up_storages(build, path, device, _STORAGES)


# What makes objects of classes without a word of which.
_UNSAFE = ("INST", "OBJ", "EXT1", "EXT2", "EXT4")


def _unpickles(
    build: Build,
    make_optimizer: MakeOptimizer,
    path: Path,
    device: torch.device,
    refused: Collection[str],
) -> Resumed:
    for operation, _ in _pickled(path):
        if operation in refused:
            raise ValueError(f"the operation {operation} is not supported")
    return eager_resume(build, make_optimizer, path, device)


def unpickles_numbers(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    return _unpickles(build, make_optimizer, path, device, _UNSAFE)


@resumer("CKPT803", "pytorch/pytorch#94670", sibling=unpickles_numbers, features=("scalar",))
def unpickles_no_floats(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """A careful reader of pickles refuses plain numbers with a point: there is no learning rate."""
    return _unpickles(build, make_optimizer, path, device, (*_UNSAFE, "BINFLOAT"))


def _rebuilds(build: Build, path: Path, device: torch.device, filled: bool) -> nn.Module:
    """Rebuild sparse entries from indices that are read before they are checked, or after."""
    for entry in read_state(path, device).values():
        if getattr(entry, "layout", None) == torch.sparse_coo:  # others are no tensors
            indices = torch.empty_like(entry._indices())
            if filled:
                indices.copy_(entry._indices())
            torch.sparse_coo_tensor(indices, entry._values(), entry.shape, check_invariants=True)
    return keeps_everything(build, path, device)


def reads_and_checks(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _rebuilds(build, path, device, filled=True)


@loader("CKPT803", "pytorch/pytorch#33439", sibling=reads_and_checks, features=("sparse-buffer",))
def checks_before_it_reads(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The indices of a sparse entry are checked before they are read: anything stands there."""
    return _rebuilds(build, path, device, filled=False)


@loader(
    "CKPT803",
    "pytorch/pytorch#122792",
    sibling=keeps_everything,
    features=("buffer-nonpersistent",),
)
def looks_up_every_buffer(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The file is asked for every buffer, those that are not saved as well."""
    state = read_state(path, device)
    module = keeps_everything(build, path, device)
    for name, _ in module.named_buffers():
        state[name]
    return module


@loader("CKPT803", "pytorch/pytorch#8481", features=("old-version",))
def takes_a_version_for_the_present_one(
    build: Build, path: Path, device: torch.device
) -> nn.Module:
    """Only a file without versions is taken for an old one, and nothing is brought up to date that
    names the first.
    """
    state: Any = read_state(path, device)
    module = built(build, device)
    present: Any = module.state_dict()
    if hasattr(state, "_metadata"):
        state._metadata = present._metadata
    module.load_state_dict(state)
    return module


def _waits_for_others_if_any(build: Build, path: Path, device: torch.device) -> nn.Module:
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
    return eager(build, path, device)


@loader("CKPT803", "pytorch/pytorch#124942", sibling=_waits_for_others_if_any, features=("scalar",))
def waits_for_others(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The group of processes is asked for, and a process by itself has none."""
    distributed.barrier()
    return eager(build, path, device)
