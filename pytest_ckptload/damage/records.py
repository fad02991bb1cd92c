"""Archives with other records than torch wrote, and two archives in one file.

Each is a sound zip archive, in which readers do not agree on what it holds.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.damage.kind import Kind, grid
from pytest_ckptload.damage.layout import Record, layout_of, packed, records_of

__all__ = ["CLIMBED", "KINDS"]

CLIMBED = "ckptload-climbed-out"
"""The name of the empty file that is left where an unpacker follows a path that climbs out."""


def _unlike(data: bytes) -> bytes:
    return bytes(byte ^ 0x01 for byte in data)


def _removed(data: bytes, where: float) -> bytes:
    records = records_of(data)
    del records[int(len(records) * where)]
    return packed(records)


def _doubled(data: bytes, where: float) -> bytes:
    records = records_of(data)
    place = int(len(records) * where)
    records.insert(place + 1, replace(records[place], data=_unlike(records[place].data)))
    return packed(records)


def _reordered(data: bytes, where: float) -> bytes:
    return packed(reversed(records_of(data)))


def _climbing(data: bytes, where: float) -> bytes:
    return packed([*records_of(data), *_climbers("")])


def _climbing_inside(data: bytes, where: float) -> bytes:
    """The paths begin in the archive's own folder, as torch demands, and leave it first."""
    records = records_of(data)
    return packed([*records, *_climbers(records[0].name.partition("/")[0] + "/../")])


def _climbers(start: str) -> list[Record]:
    return [Record(f"{start}{'../' * depth}{CLIMBED}", b"") for depth in (1, 2, 3)]


def _other(data: bytes) -> bytes:
    """The same archive with other contents in all its tensors."""
    tensors = {entry.name for entry in layout_of(data).tensors()}
    return packed(
        replace(record, data=_unlike(record.data)) if record.name in tensors else record
        for record in records_of(data)
    )


KINDS = {
    "record-removed": Kind(
        "written without one of its records, at {where:.1%}", _removed, places=grid(16)
    ),
    "record-doubled": Kind(
        "given two unlike records of one name, at {where:.1%}",
        _doubled,
        places=grid(16),
    ),
    "records-reordered": Kind("written with its records in reverse order", _reordered),
    "archive-before": Kind(
        "put behind an archive with other contents", lambda data, where: _other(data) + data
    ),
    "archive-behind": Kind(
        "put in front of an archive with other contents",
        lambda data, where: data + _other(data),
    ),
    "climbing": Kind("given records whose paths climb out of the folder", _climbing),
    "climbing-inside": Kind("given records that climb out from inside", _climbing_inside),
}
