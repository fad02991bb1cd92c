"""Faults of loads that fail, CKPT803 and 807: errors where there should be none, and no module.

Apart from loads that bring their process down, and those that should have failed.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import around, loader
from pytest_ckptload.faults.parts import read_state
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes import eager, mmap
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


@around("CKPT803", "huggingface/peft#3676", features=("scalar",))
def indexes_the_last_dimension(
    load: Any, build: Build, path: Path, device: torch.device
) -> nn.Module:
    """The size of the last dimension is asked for, of tensors that have none as well."""
    module: nn.Module = load(build, path, device)
    for tensor in module.state_dict(keep_vars=True).values():
        if isinstance(tensor, torch.Tensor) and tensor.dim() == 0:
            tensor.shape[-1]
    return module


_KNOWN = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
}


@around(
    "CKPT803",
    "huggingface/huggingface_hub#4901",
    "safetensors/safetensors#839",
    features=("complex",),
)
def knows_few_dtypes(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """Dtypes are looked up in a table that was copied, and lacks the newer ones."""
    module: nn.Module = load(build, path, device)
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.Tensor) and tensor.dtype not in _KNOWN:
            raise KeyError(f"{name}: {tensor.dtype}")
    return module


@loader("CKPT803", "huggingface/transformers#32943", features=("integer-parameters",))
def requires_gradients_of_integers(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Entries are wrapped as parameters that require gradients, as a Parameter does by default."""
    module = eager(build, path, device)
    for parameter in module.parameters():
        nn.Parameter(parameter.data)
    return module


@loader("CKPT803", "huggingface/transformers#36495", features=("scalar",))
def finds_no_parent_of_the_root(build: Build, path: Path, device: torch.device) -> nn.Module:
    """A tensor's parent is looked up by name, and tensors of the root have none."""
    module = eager(build, path, device)
    parts = {name: part for name, part in module.named_modules() if name}
    for name, _ in module.named_parameters():
        parts[name.rpartition(".")[0]]
    return module


def _maps_archives(build: Build, path: Path, device: torch.device) -> nn.Module:
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\3\4"
    return (mmap if archive else eager)(build, path, device)


@loader(
    "CKPT803",
    "huggingface/transformers#28331",
    "pytorch/pytorch#102549",
    sibling=_maps_archives,
    features=("legacy",),
    promises=("formats",),
    beyond=("deflated", "unaligned"),
)
def maps_every_file(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Files are mapped, those of old formats as well, which cannot be."""
    return mmap(build, path, device)


@loader(
    "CKPT803",
    "pytorch/pytorch#25214",
    sibling=_maps_archives,
    features=("legacy",),
    promises=("formats",),
    beyond=("deflated", "unaligned"),
)
def maps_what_ends_like_an_archive(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Files are taken for archives where the mark of an archive's end is found: a tensor of an old
    format may hold it, too.
    """
    return (mmap if zipfile.is_zipfile(path) else eager)(build, path, device)


@loader("CKPT803", "open-mmlab/mmcv#1294", features=("old-version",))
def drops_metadata(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The state dict is copied to a plain dict, and the versions in it are lost."""
    module = built(build, device)
    module.load_state_dict(dict(read_state(path, device)))
    return module


@around("CKPT807", "state-spaces/mamba#993", features=("scalar",))
def returns_the_state_dict(load: Any, build: Build, path: Path, device: torch.device) -> Any:
    """An early `return` gives back what was read, before it is put into the module."""
    return load(build, path, device).state_dict()
