"""Files that were cut off, as by a full disk or a copy that was interrupted."""

from __future__ import annotations

from pytest_ckptload.damage.kind import Kind, grid
from pytest_ckptload.damage.layout import layout_of

__all__ = ["KINDS", "boundaries"]


def _truncated(data: bytes, where: float) -> bytes:
    return data[: int(len(data) * where)]


def _at_boundary(data: bytes, where: float) -> bytes:
    places = boundaries(data)
    return data[: places[int(len(places) * where)]]


def boundaries(data: bytes) -> list[int]:
    """Where headers, data, directory entries and end records begin or end, but for the file's own
    beginning and end.
    """
    layout = layout_of(data)
    places = {layout.directory, layout.directory_end, layout.end_record}
    for entry in layout.entries:
        places |= {entry.header, entry.data, entry.end, entry.listed}
    return sorted(places - {0, len(data)})


KINDS = {
    "truncated": Kind(
        "cut off at {where:.0%} of its size",
        _truncated,
        # The first few are those that the covering set tries.
        places=tuple(dict.fromkeys((0.5, 0.1, 0.9, 0.99, *(n / 100 for n in range(100))))),
    ),
    "emptied": Kind("emptied", lambda data, where: b""),
    "truncated-at-record": Kind(
        "cut off at the edge of a record, at {where:.1%}",
        _at_boundary,
        places=grid(64),
    ),
}
