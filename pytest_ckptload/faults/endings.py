"""Loaders that harm their file or their process, or end where they should not, in the order of the
rules that catch them.

Apart from those that give a wrong module: what these give may be right.
"""

from __future__ import annotations

import mmap
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import Fault
from pytest_ckptload.faults.parts import keeps_everything, loads_without_strict, read_state
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes import eager

__all__ = ["ENDING_FAULTS"]


def maps_shared(build: Build, path: Path, device: torch.device) -> nn.Module:
    with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
        return _fast_untrapped(build, path, device)


def maps_privately(build: Build, path: Path, device: torch.device) -> nn.Module:
    with torch.serialization.set_default_mmap_options(mmap.MAP_PRIVATE):
        return _fast_untrapped(build, path, device)


def _fast_untrapped(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Parameters that live in the map, in a module that was built as ever."""
    state = read_state(path, device)
    module = eager(build, path, device)
    seen: set[int] = set()
    for name, parameter in module.named_parameters():
        entry = state[name]
        fits = entry.dtype == parameter.dtype and entry.is_contiguous()
        if fits and entry.untyped_storage().data_ptr() not in seen:
            seen.add(entry.untyped_storage().data_ptr())
            parameter.data = entry.detach()
    return module


class _ReadsAgain:
    """A hook that makes the state dict of what the file holds now."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, module: nn.Module, *rest: Any) -> None:
        torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)


def reads_its_file_again(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    module.register_state_dict_pre_hook(_ReadsAgain(path))  # type: ignore[no-untyped-call]
    return module


def saves_over_what_it_maps(build: Build, path: Path, device: torch.device) -> nn.Module:
    state = read_state(path, device)
    torch.save(state, path)
    return eager(build, path, device)


def saves_beside_what_it_maps(build: Build, path: Path, device: torch.device) -> nn.Module:
    state = read_state(path, device)
    copy = path.with_name("converted.pt")
    torch.save(state, copy)
    return eager(build, copy, device)


def takes_a_lock_twice(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _locked(threading.Lock(), build, path, device)


def takes_a_lock_that_allows_it(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _locked(threading.RLock(), build, path, device)


def _locked(lock: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    with lock, lock:
        return eager(build, path, device)


def reads_without_end(build: Build, path: Path, device: torch.device) -> nn.Module:
    read = [path.read_bytes()]
    while read[-1]:  # which a read at the end of a file would make empty
        read.append(bytes(10_000_000))
    return eager(build, path, device)


def reads_to_the_end(build: Build, path: Path, device: torch.device) -> nn.Module:
    read: list[bytes] = []
    with path.open("rb") as file:
        while not read or read[-1]:
            read.append(file.read(10_000_000))
    return eager(build, path, device)


def raises_for_scalars(build: Build, path: Path, device: torch.device) -> nn.Module:
    if any(tensor.dim() == 0 for tensor in read_state(path, device).values()):
        raise ValueError("cannot index a tensor without dimensions")
    return eager(build, path, device)


def swallows_errors(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = build().to(device)
    try:
        module.load_state_dict(read_state(path, device))
    except Exception as error:
        print(f"checkpoint not used: {error}")  # noqa: T201  (what such a loader does)
    return module


def lets_errors_out(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = build().to(device)
    module.load_state_dict(read_state(path, device, mapped=False))
    return module


def unpickles_anything(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = build().to(device)
    module.load_state_dict(torch.load(path, map_location=device, weights_only=False, mmap=False))
    return module


def unpacks_by_name(build: Build, path: Path, device: torch.device) -> nn.Module:
    folder = path.with_suffix(".unpacked")
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            target = folder / record.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(record))
    return eager(build, path, device)


def unpacks_inside(build: Build, path: Path, device: torch.device) -> nn.Module:
    if not path.is_file():  # zipfile reads a device until memory ends
        raise ValueError(f"{path} is not a file")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(path.with_suffix(".unpacked"))
    return eager(build, path, device)


def returns_the_state_dict(build: Build, path: Path, device: torch.device) -> Any:
    return eager(build, path, device).state_dict()


# Slices of a map for each name of the module come apart from one another, and know no older names.
_TORN = ("view-parameter", "old-version", "load-hooks", "parametrized")

ENDING_FAULTS = (
    Fault("CKPT701", maps_shared, maps_privately, ("pytorch/rl#3966",), beyond=_TORN),
    Fault(
        "CKPT702", reads_its_file_again, maps_privately, ("vllm-project/vllm#32718",), beyond=_TORN
    ),
    Fault(
        "CKPT703",
        maps_privately,
        keeps_everything,
        ("meta-pytorch/torchtune#1018", "pytorch/rl#3966"),
        promises=("detached",),
    ),
    Fault(
        "CKPT801",
        saves_over_what_it_maps,
        saves_beside_what_it_maps,
        ("meta-pytorch/torchtune#1018",),
    ),
    Fault(
        "CKPT802",
        takes_a_lock_twice,
        takes_a_lock_that_allows_it,
        ("huggingface/transformers#8649",),
    ),
    Fault("CKPT803", raises_for_scalars, eager, ("huggingface/peft#3676",)),
    Fault(
        "CKPT804",
        loads_without_strict,
        keeps_everything,
        ("vllm-project/vllm#10327",),
        promises=("strict",),
    ),
    Fault(
        "CKPT805",
        swallows_errors,
        lets_errors_out,
        ("meta-pytorch/torchtune#1018",),
        promises=("robust",),
    ),
    Fault(
        "CKPT806",
        unpickles_anything,
        lets_errors_out,
        ("ecmwf/anemoi-core#1416",),
        promises=("robust",),
    ),
    Fault("CKPT807", returns_the_state_dict, eager, ()),
    Fault("CKPT808", reads_without_end, reads_to_the_end, ("safetensors/safetensors#369",)),
    Fault(
        "CKPT809",
        unpacks_by_name,
        unpacks_inside,
        ("PaddlePaddle/Paddle#76899",),
        promises=("robust",),
    ),
)
