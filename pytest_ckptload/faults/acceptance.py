"""Faults of what is accepted, CKPT804 to 806 and 809: files that are to be refused are not, or too
late.

Apart from loads that fail: here they should.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import around, loader
from pytest_ckptload.faults.parts import keeps_everything, loads_without_strict, read_state
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes import eager
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


@loader(
    "CKPT804",
    "vllm-project/vllm#10327",
    sibling=keeps_everything,
    features=("missing-key", "extra-key"),
    promises=("strict",),
)
def loads_what_there_is(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Nobody keeps track of which parameters were given data."""
    return loads_without_strict(build, path, device)


@loader(
    "CKPT804",
    "pytorch/pytorch#123625",
    "pytorch/pytorch#185752",
    sibling=keeps_everything,
    features=("prefixed",),
    promises=("strict",),
)
def loads_nothing_of_a_compiled_one(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Names with the prefix of a wrapper are unexpected, and with `strict=False` none is loaded."""
    module = keeps_everything(build, path, device) if _fits(build, path, device) else build()
    return module.to(device)


def _fits(build: Build, path: Path, device: torch.device) -> bool:
    names = build().state_dict().keys()
    return not names or any(name in names for name in read_state(path, device))


@loader(
    "CKPT804",
    "NVIDIA/TensorRT-LLM#3324",
    sibling=keeps_everything,
    features=("missing-key",),
    promises=("strict",),
)
def ties_what_is_missing(build: Build, path: Path, device: torch.device) -> nn.Module:
    """A name that is missing from the file is taken for a tied one, and filled from another."""
    module = built(build, device)
    state = dict(read_state(path, device))
    for name, tensor in module.state_dict().items():
        if name not in state and isinstance(tensor, torch.Tensor):
            like = [t for t in state.values() if t.shape == tensor.shape]
            state[name] = like[0] if like else tensor
    module.load_state_dict(state)
    return module


@loader(
    "CKPT804",
    "pytorch/pytorch#126604",
    sibling=loads_without_strict,
    features=("shape-mismatch",),
)
def broadcasts(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Entries are copied without a look at their shape, and broadcast where they fit so."""
    module = built(build, device)
    tensors = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in read_state(path, device).items():
            tensors[name].copy_(tensor)
    return module


def _lets_errors_out(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    try:
        return load(build, path, device)  # type: ignore[no-any-return]
    except Exception as error:
        raise ValueError("the checkpoint cannot be used") from error


@around(
    "CKPT805",
    "pytorch/pytorch#184652",
    right=_lets_errors_out,
    features=("damaged",),
    promises=("robust",),
)
def swallows_errors(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """What cannot be read is left out, and the module stays as it was built."""
    try:
        return load(build, path, device)  # type: ignore[no-any-return]
    except Exception:
        return built(build, device)


def _unpickles_tensors(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = built(build, device)
    module.load_state_dict(read_state(path, device, mapped=False))
    return module


@loader(
    "CKPT806",
    "meta-pytorch/float8_experimental#288",
    "pytorch/ao#1122",
    sibling=_unpickles_tensors,
    features=("hostile",),
    promises=("robust",),
)
def unpickles_anything(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Classes that are not on the list of safe ones are let in by letting in everything."""
    module = built(build, device)
    module.load_state_dict(torch.load(path, map_location=device, weights_only=False, mmap=False))
    return module


@loader(
    "CKPT806",
    "pytorch/ao#630",
    sibling=_unpickles_tensors,
    features=("hostile",),
    promises=("robust",),
)
def looks_at_it_afterwards(build: Build, path: Path, device: torch.device) -> nn.Module:
    """What was unpickled is looked at, and refused where it is no state dict: too late."""
    torch.load(path, map_location=device, weights_only=False, mmap=False)
    return _unpickles_tensors(build, path, device)


def _folder(path: Path) -> tempfile.TemporaryDirectory[str]:
    if not path.is_file():  # zipfile reads a device until memory ends
        raise ValueError(f"{path} is not a file")
    return tempfile.TemporaryDirectory(dir=path.parent)


def _unpacks_inside(build: Build, path: Path, device: torch.device) -> nn.Module:
    with _folder(path) as folder, zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return eager(build, path, device)


@loader(
    "CKPT809",
    sibling=_unpacks_inside,
    features=("damaged",),
    promises=("robust",),
)
def unpacks_by_name(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Records are unpacked to where their names lead."""
    with _folder(path) as folder, zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            target = Path(folder, record.filename)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(record))
    return eager(build, path, device)
