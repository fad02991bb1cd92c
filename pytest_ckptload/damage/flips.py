"""Files in which a single bit is another: in each part of an archive one kind."""

from __future__ import annotations

from collections.abc import Callable

from pytest_ckptload.damage.kind import Kind, grid
from pytest_ckptload.damage.layout import Layout, layout_of

__all__ = ["KINDS"]

Parts = Callable[[Layout, int], list[range]]


def _flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :]


def _flip_in(parts: Parts) -> Callable[[bytes, float], bytes]:
    """The change that flips the bit at ``where`` of all bits in some parts of the file."""

    def alter(data: bytes, where: float) -> bytes:
        chosen = parts(layout_of(data), len(data))
        place = int(8 * sum(map(len, chosen)) * where)
        for part in chosen:
            if place < 8 * len(part):
                return _flipped(data, part[place // 8], 1 << place % 8)
            place -= 8 * len(part)
        return data

    return alter


def _in_signature(data: bytes, where: float) -> bytes:
    """Flip a bit where an entry of the directory begins: no reader takes it for one then."""
    entries = layout_of(data).entries
    return _flipped(data, entries[int(len(entries) * where)].listed, 0x10)


def _in_data(data: bytes, where: float) -> bytes:
    """Flip the lowest bit of a byte of the first tensor: torch checks no checksum."""
    tensors = layout_of(data).tensors()
    if not tensors:
        return data
    return _flipped(data, tensors[0].data + int((tensors[0].size - 1) * where), 0x01)


# Where an entry of the directory says how its data is stored, and that it is a folder. With a bit
# changed there torch accepts the record and reads nothing into new memory: what the eager recipe
# loads is then another thing every time, and nothing to hold a loader against.
_UNDEFINED = (10, 38)


def _directory(layout: Layout, size: int) -> list[range]:
    cuts = [entry.listed + place for entry in layout.entries for place in _UNDEFINED]
    starts = [layout.directory, *(cut + 1 for cut in cuts)]
    return [*map(range, starts, [*cuts, layout.directory_end])]


def _local_headers(layout: Layout, size: int) -> list[range]:
    """All but their padding."""
    return [range(e.header, e.header + 30 + len(e.name.encode())) for e in layout.entries]


def _pickle(layout: Layout, size: int) -> list[range]:
    return [range(layout.pickle().data, layout.pickle().end)]


def _end_record(layout: Layout, size: int) -> list[range]:
    return [range(layout.end_record, size)]


def _end_record_64(layout: Layout, size: int) -> list[range]:
    return [range(layout.directory_end, layout.end_record)]


def _bit(of: str, parts: Parts, first: float) -> Kind:
    sentence = f"given one other bit in {of}, at {{where:.1%}}"
    return Kind(sentence, _flip_in(parts), places=grid(64, first))


KINDS = {
    "directory": Kind(
        "given an unreadable directory entry, at {where:.1%}",
        _in_signature,
        places=grid(8),
    ),
    "data": Kind("given one other bit in a tensor, at {where:.1%}", _in_data, places=grid(8)),
    "directory-bit": _bit("its directory", _directory, 0.5),
    "local-header": _bit("its local headers", _local_headers, 0.0),
    "pickle": _bit("its pickle", _pickle, 0.5),
    "end-record": _bit("its end record", _end_record, 0.0),
    "end-record-64": _bit("its zip64 end", _end_record_64, 0.5),
}
