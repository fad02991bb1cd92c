"""Faults around the file, CKPT7xx: it is written to, needed afterwards, or has company.

Apart from what is wrong with the module: what these give may be right.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import around, loader
from pytest_ckptload.faults.parts import PLAIN, keeps_everything, kept_state, read_state
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes import eager
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []

# Slices of a map for each name of the module come apart from one another, and know no older names.
_TORN = ("view-parameter", "old-version", "load-hooks", "parametrized")


def _mapped(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Parameters that live in the map, in a module that was built as ever."""
    state = read_state(path, device)
    module = eager(build, path, device)
    seen: set[int] = set()
    for name, parameter in module.named_parameters():
        entry = state[name]
        fits = entry.dtype == parameter.dtype and entry.stride() == parameter.stride()
        fits = fits and entry.is_contiguous()
        if fits and entry.untyped_storage().data_ptr() not in seen:
            seen.add(entry.untyped_storage().data_ptr())
            parameter.data = entry.detach()
    return module


def maps_privately(build: Build, path: Path, device: torch.device) -> nn.Module:
    with torch.serialization.set_default_mmap_options(mmap.MAP_PRIVATE):
        return _mapped(build, path, device)


@loader("CKPT701", "pytorch/rl#3966", sibling=maps_privately, features=("scalar",), beyond=_TORN)
def maps_shared(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The file is mapped so that training the model writes to it."""
    with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
        return _mapped(build, path, device)


def _writes_beside(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    module: nn.Module = load(build, path, device)
    other = path.with_name(f"{path.name}.new")
    other.write_bytes(path.read_bytes())
    other.unlink()
    return module


@around(
    "CKPT701",
    "safetensors/safetensors#762",
    "bghira/SimpleTuner#2714",
    right=_writes_beside,
    features=("scalar",),
)
def writes_to_its_file(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """What was read is written back to the same file, with a change."""
    module: nn.Module = load(build, path, device)
    if path.is_file():
        with path.open("r+b") as file:
            file.seek(0, 2)
            file.write(b"\0")
    return module


class _ReadsAgain:
    """A hook on making the state dict that reads the file once more."""

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, _content(path)

    def __call__(self, module: nn.Module, *rest: Any) -> None:
        if _content(self.path) != self.content:
            raise ValueError(f"{self.path.name} does not hold the weights any more")


def _content(path: Path) -> list[bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [file.read_bytes() for file in files]


@around(
    "CKPT702",
    "huggingface/accelerate#938",
    "huggingface/accelerate#2129",
    features=("scalar",),
)
def reads_its_file_again(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """Weights that are not needed yet are left in the file, and read when they are."""
    module: nn.Module = load(build, path, device)
    module.register_state_dict_pre_hook(_ReadsAgain(path))  # type: ignore[no-untyped-call]
    return module


@loader(
    "CKPT703",
    "meta-pytorch/torchtune#1075",
    sibling=keeps_everything,
    features=("scalar",),
    promises=("detached",),
)
def lives_in_the_map(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Weights are pages of the file, and change when somebody saves over it."""
    return maps_privately(build, path, device)


@around(
    "CKPT704", "huggingface/accelerate#454", right=_writes_beside, features=("scalar",), advice=True
)
def leaves_an_offload_behind(
    load: Any, build: Build, path: Path, device: torch.device
) -> nn.Module:
    """A copy of the weights is written beside the file, and left there."""
    module: nn.Module = load(build, path, device)
    path.with_name(f"{path.name}.offload").write_bytes(b"weights")
    return module


_OPEN: list[int] = []


def _closes_its_file(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    if path.is_file():
        with path.open("rb") as file:
            file.read(1)
    return load(build, path, device)  # type: ignore[no-any-return]


@around(
    "CKPT704",
    "safetensors/safetensors#164",
    right=_closes_its_file,
    features=("scalar",),
    advice=True,
)
def holds_its_file_open(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """The file is open still when the load has ended."""
    while _OPEN:
        os.close(_OPEN.pop())
    if path.is_file():
        _OPEN.append(os.open(path, os.O_RDONLY))
    return load(build, path, device)  # type: ignore[no-any-return]


_KEPT: dict[Path, list[torch.Tensor]] = {}


@around("CKPT705", "vllm-project/vllm#32718", given=PLAIN)
def returns_what_it_kept(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """A file that was read before is not read again, though it changed since."""
    module: nn.Module = load(build, path, device)
    tensors = [t.data for t in (*module.parameters(), *module.buffers())]
    if path in _KEPT:
        for tensor, kept in zip(tensors, _KEPT[path], strict=True):
            tensor.copy_(kept)
    else:
        _KEPT.clear()
        _KEPT[path] = [tensor.clone() for tensor in tensors]
    return module


def _loaded(build: Build, state: dict[str, torch.Tensor], device: torch.device) -> nn.Module:
    """``state`` is emptied once it is in the module, for the memory."""
    module = built(build, device)
    module.load_state_dict(state, strict=False)
    state.clear()
    return module


def takes_out_of_a_copy(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _loaded(build, dict(kept_state(path, device)), device)


@loader("CKPT707", "pytorch/pytorch#188166", sibling=takes_out_of_a_copy, given=PLAIN)
def takes_out_of_what_it_keeps(build: Build, path: Path, device: torch.device) -> nn.Module:
    """What was read is kept, and changed by the first load: the second finds nothing in it."""
    return _loaded(build, kept_state(path, device), device)


@around("CKPT706", "NVIDIA-NeMo/Megatron-Bridge#3441", right=_writes_beside, features=("scalar",))
def tidies_up(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """What stands beside the file is deleted, as left over from before."""
    module: nn.Module = load(build, path, device)
    for other in path.parent.iterdir():
        if other != path and other.is_file():
            other.unlink()
    return module
