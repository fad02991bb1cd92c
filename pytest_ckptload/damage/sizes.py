"""Archives in which a size is not the truth.

Readers that believe one size and use another read past the end of what they have.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import torch
from torch.torch_version import TorchVersion

from pytest_ckptload.damage.kind import Alter, Kind, grid
from pytest_ckptload.damage.layout import DEFLATED, Entry, Record, layout_of, packed, records_of

__all__ = ["KINDS"]

_BOMB = 64 * 2**20

# Where the sizes stand in an entry of the directory, and in a local header.
_STORED, _INFLATED = 20, 24
_LOCAL = (18, 22)


def _tensor(data: bytes, where: float) -> Entry | None:
    tensors = layout_of(data).tensors()
    return tensors[int(len(tensors) * where)] if tensors else None


def _lying(size: Callable[[int], int], *places: int, local: bool = False) -> Alter:
    """The change that puts another size into some places of one tensor's header."""

    def alter(data: bytes, where: float) -> bytes:
        entry = _tensor(data, where)
        if entry is None:
            return data
        changed = bytearray(data)
        for place in places:
            start = entry.header if local else entry.listed
            struct.pack_into("<I", changed, start + place, size(entry.size))
        return bytes(changed)

    return alter


def _with_record(change: Callable[[Record], Record]) -> Alter:
    """The change that writes one tensor's record anew."""

    def alter(data: bytes, where: float) -> bytes:
        entry = _tensor(data, where)
        if entry is None:
            return data
        return packed(change(r) if r.name == entry.name else r for r in records_of(data))

    return alter


def _halved(record: Record) -> Record:
    return replace(record, data=record.data[: len(record.data) // 2])


def _bomb(record: Record) -> Record:
    stream, crc = _zeros()
    return Record(record.name, stream, DEFLATED, _BOMB, crc)


@functools.cache
def _zeros() -> tuple[bytes, int]:
    """A deflated stream of zeros, and their checksum.

    It is one part many times over, which takes a fraction of the time of deflating them all.
    """
    part, parts = bytes(2**20), _BOMB // 2**20
    deflate = zlib.compressobj(9, wbits=-15)
    stream = deflate.compress(part) + deflate.flush(zlib.Z_FULL_FLUSH)
    crc = functools.reduce(lambda crc, _: zlib.crc32(part, crc), range(parts), 0)
    return stream * parts + b"\x03\x00", crc


_TENSORS = grid(4, first=0.0)

_SHORT = {
    "record-short": Kind(
        "written with half of a tensor's data", _with_record(_halved), places=_TENSORS
    ),
}
# Torch before 2.10 takes what lies beyond its end (pytorch/pytorch#165553): anything.
_JUDGED = TorchVersion(torch.__version__) >= "2.10"

KINDS = {
    **(_SHORT if _JUDGED else {}),
    "size-larger": Kind(
        "listed with a tensor that inflates to too much",
        _lying(lambda size: size + 64, _INFLATED),
        places=_TENSORS,
    ),
    "size-smaller": Kind(
        "listed with a tensor that inflates to half of it",
        _lying(lambda size: size // 2, _INFLATED),
        places=_TENSORS,
    ),
    "sizes-larger": Kind(
        "listed with a tensor that runs into what follows",
        _lying(lambda size: size + 64, _STORED, _INFLATED),
        places=_TENSORS,
    ),
    "local-sizes": Kind(
        "given a local header with too large a tensor",
        _lying(lambda size: size + 64, *_LOCAL, local=True),
        places=_TENSORS,
    ),
    "zip-bomb": Kind(
        f"given a tensor that inflates to {_BOMB >> 20} MB of zeros",
        _with_record(_bomb),
        places=_TENSORS,
    ),
}
