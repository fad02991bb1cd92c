"""Faults of loads that bring their process down, or never come to an end: CKPT801, 802 and 808.

Apart from loads that end in an error, or in none: these take a worker to be survived.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import around, loader
from pytest_ckptload.faults.parts import read_state
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes import eager

__all__: list[str] = []


def saves_beside_what_it_maps(build: Build, path: Path, device: torch.device) -> nn.Module:
    state = read_state(path, device)
    copy = path.with_name("converted.pt")
    torch.save(state, copy)
    try:
        return eager(build, copy, device)
    finally:
        copy.unlink()


@loader(
    "CKPT801",
    "meta-pytorch/torchtune#1018",
    sibling=saves_beside_what_it_maps,
    features=("scalar",),
    beyond=("old-version",),
)
def saves_over_what_it_maps(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The state dict is saved to the file that it is mapped from, which is cut off first."""
    state = read_state(path, device)
    torch.save(state, path)
    return eager(build, path, device)


def _maps_a_file_that_stays(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    _read_through_a_map(path.with_name("scratch"), shrink=False)
    return load(build, path, device)  # type: ignore[no-any-return]


@around("CKPT801", "pytorch/pytorch#42155", right=_maps_a_file_that_stays, features=("scalar",))
def maps_a_file_that_shrinks(
    load: Any, build: Build, path: Path, device: torch.device
) -> nn.Module:
    """A page of a mapped file is read that the file does not have any more."""
    _read_through_a_map(path.with_name("scratch"), shrink=True)
    return load(build, path, device)  # type: ignore[no-any-return]


def _read_through_a_map(scratch: Path, shrink: bool) -> None:
    scratch.write_bytes(bytes(mmap.PAGESIZE))
    try:
        with scratch.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            if shrink:
                os.truncate(scratch, 0)
            mapped[0]
    finally:
        scratch.unlink()


def _takes_a_lock_that_allows_it(
    load: Any, build: Build, path: Path, device: torch.device
) -> nn.Module:
    lock = threading.RLock()
    with lock, lock:
        return load(build, path, device)  # type: ignore[no-any-return]


@around(
    "CKPT802",
    right=_takes_a_lock_that_allows_it,
    features=("scalar",),
    limits={"timeout": 1},
)
def takes_a_lock_twice(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """The load waits for a lock that it holds itself."""
    lock = threading.Lock()
    with lock, lock:
        return load(build, path, device)  # type: ignore[no-any-return]


def _visits_every_view_once(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    time.sleep(0.0)
    return load(build, path, device)  # type: ignore[no-any-return]


@around(
    "CKPT802",
    "pytorch/pytorch#149545",
    right=_visits_every_view_once,
    features=("scalar",),
    limits={"timeout": 1},
)
def visits_views_without_end(
    load: Any, build: Build, path: Path, device: torch.device
) -> nn.Module:
    """Each view of a storage begins the load of all views again."""
    pending = [0]
    for view in pending:
        time.sleep(0.001)
        pending.append(view + 1)
    return load(build, path, device)  # type: ignore[no-any-return]


def _reads_to_the_end(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    if path.is_file():
        with path.open("rb") as file:
            while file.read(10_000_000):
                pass
    return load(build, path, device)  # type: ignore[no-any-return]


@around(
    "CKPT808",
    "safetensors/safetensors#369",
    right=_reads_to_the_end,
    features=("scalar",),
    limits={"memory": 300_000_000},
)
def reads_without_end(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """What is read is kept, and reading goes on for ever."""
    kept = [b"."]
    while kept[-1]:
        kept.append(bytes(10_000_000))
    return load(build, path, device)  # type: ignore[no-any-return]
