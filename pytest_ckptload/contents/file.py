"""The file: what stands around a state dict in it, and how it is written.

Apart from the state dict because formats know nothing of modules.
"""

from __future__ import annotations

import copy
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pytest_ckptload.case import CheckpointSpec
from pytest_ckptload.contents.sparse import indices_of, values_of
from pytest_ckptload.damage.layout import packed, records_of

__all__ = ["BESIDE", "FORMATS", "payload_of", "write"]

BESIDE: Mapping[str, Any] = {"epoch": 3, "lr": 0.5, "hparams": {"width": 2, "names": ["a"]}}
"""What stands beside a state dict that is not alone in its file."""


def write(state: Mapping[str, Any], path: Path, spec: CheckpointSpec | None = None) -> None:
    """Write a state dict as ``spec`` has it: left out, as ``torch.save`` does by itself."""
    spec = spec or CheckpointSpec()
    with _tagged(spec.device):
        FORMATS[spec.format](payload_of(state, spec), path)


def payload_of(state: Mapping[str, Any], spec: CheckpointSpec) -> Mapping[str, Any]:
    """What the file holds: the state dict, or one with other names, or what that is part of."""
    if spec.prefix:
        state = {spec.prefix + name: value for name, value in state.items()}
    return {**BESIDE, spec.payload: state} if spec.payload else state


@contextmanager
def _tagged(device: str | None) -> Iterator[None]:
    """Have ``torch.save`` say inside that tensors are on ``device``."""
    own = torch.serialization.location_tag
    if device is not None:
        torch.serialization.location_tag = lambda storage: device
    try:
        yield
    finally:
        torch.serialization.location_tag = own


def _zip(payload: Mapping[str, Any], path: Path) -> None:
    torch.save(payload, path)


def _legacy(payload: Mapping[str, Any], path: Path) -> None:
    torch.save(payload, path, _use_new_zipfile_serialization=False)


def _unaligned(payload: Mapping[str, Any], path: Path) -> None:
    torch.save(payload, path)
    path.write_bytes(packed(records_of(path.read_bytes()), alignment=1))


def _deflated(payload: Mapping[str, Any], path: Path) -> None:
    torch.save(payload, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def _byteorder(payload: Mapping[str, Any], path: Path) -> None:
    torch.save(_swapped(payload), path)
    here, there = sys.byteorder.encode(), b"big" if sys.byteorder == "little" else b"little"
    path.write_bytes(
        packed(
            replace(record, data=there) if record.data == here else record
            for record in records_of(path.read_bytes())
        )
    )


def _swapped(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The payload with the bytes of every element in reverse order."""
    # Compressed sparse tensors cannot be copied deeply: they come in as copied already.
    sparse = (t for t in _tensors(payload) if t.layout not in (torch.strided, torch.sparse_coo))
    swapped = copy.deepcopy(payload, {id(tensor): tensor.clone() for tensor in sparse})
    done: set[int] = set()
    parts = (part for t in _tensors(swapped) for part in (*indices_of(t), values_of(t)))
    for tensor in parts:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in done:
            done.add(storage.data_ptr())
            storage.byteswap(tensor.dtype)  # type: ignore[no-untyped-call]
    return swapped


def _tensors(payload: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    for value in payload.values():
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, Mapping):
            yield from _tensors(value)


FORMATS: Mapping[str, Callable[[Mapping[str, Any], Path], None]] = {
    "zip": _zip,
    "legacy": _legacy,
    "unaligned": _unaligned,
    "deflated": _deflated,
    "byteorder": _byteorder,
}
"""Every way of writing a file, by its name."""
