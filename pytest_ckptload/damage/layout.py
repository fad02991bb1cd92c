"""The layout of a zip archive as torch writes it, read and written.

Apart from the damage because it is right: what is written here without any damage is byte for byte
what torch wrote. ``zipfile`` writes neither torch's padding nor its descriptors, and refuses to
write some of what is wanted. Archives of 4 GB and more are not written.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["DEFLATED", "Entry", "Layout", "Record", "layout_of", "packed", "records_of"]

DEFLATED = 8

_ALIGNMENT = 64
_FLAGS = 0x0808  # names are UTF-8, sizes stand in a descriptor behind the data
_LOCAL = struct.Struct("<4s5H3I2H")
_DESCRIPTOR = struct.Struct("<4s3I")
_DIRECTORY = struct.Struct("<4s6H3I5H2I")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")


@dataclass(frozen=True)
class Entry:
    """Where one record lies: its local header, its data, and its entry in the directory."""

    name: str
    header: int
    data: int
    end: int
    listed: int

    @property
    def size(self) -> int:
        return self.end - self.data


@dataclass(frozen=True)
class Layout:
    """Where everything lies in an archive: records, then a directory, then the end records."""

    entries: tuple[Entry, ...]
    directory: int
    directory_end: int
    end_record: int

    def tensors(self) -> list[Entry]:
        """The records that hold tensor data, less those without any."""
        return [entry for entry in self.entries if "/data/" in entry.name and entry.size]

    def pickle(self) -> Entry:
        """The record of the pickle."""
        return next(entry for entry in self.entries if entry.name.endswith("/data.pkl"))


def layout_of(data: bytes) -> Layout:
    """The layout of an archive that torch wrote."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos, listed = archive.infolist(), archive.start_dir
    directory, entries = listed, []
    for info in infos:
        *_, name, extra = _LOCAL.unpack_from(data, info.header_offset)
        start = info.header_offset + _LOCAL.size + name + extra
        end = start + info.compress_size
        entries.append(Entry(info.filename, info.header_offset, start, end, listed))
        name, extra, comment = struct.unpack_from("<3H", data, listed + 28)
        listed += _DIRECTORY.size + name + extra + comment
    return Layout(tuple(entries), directory, listed, data.rindex(b"PK\x05\x06"))


@dataclass(frozen=True)
class Record:
    """A record to be written; ``size`` is that of what ``data`` inflates to, if it is deflated."""

    name: str
    data: bytes
    method: int = 0
    size: int | None = None
    crc: int | None = None


def records_of(data: bytes) -> list[Record]:
    """The records of an archive that torch wrote, in their order."""
    return [Record(e.name, data[e.data : e.end]) for e in layout_of(data).entries]


def packed(records: Iterable[Record], alignment: int = _ALIGNMENT) -> bytes:
    """An archive as torch writes it: stored, each record's data at a multiple of ``alignment``."""
    out, directory, count = bytearray(), bytearray(), 0
    for record in records:
        name, start, sizes = record.name.encode(), len(out), _sizes(record)
        padding = -(start + _LOCAL.size + len(name) + 4) % alignment
        extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
        rest = (0, 0, 0, 0, 0, len(name), len(extra))
        out += _LOCAL.pack(b"PK\x03\x04", 0, _FLAGS, record.method, *rest) + name + extra
        out += record.data + _DESCRIPTOR.pack(b"PK\x07\x08", *sizes)
        head = (0, 0, _FLAGS, record.method, 0, 0)
        rest = (len(name), 0, 0, 0, 0, 0, start)
        directory += _DIRECTORY.pack(b"PK\x01\x02", *head, *sizes, *rest) + name
        count += 1
    size, start, behind = len(directory), len(out), len(out) + len(directory)
    end_64 = _END_64.pack(b"PK\x06\x06", 44, 0x031E, 45, 0, 0, count, count, size, start)
    locator = _LOCATOR.pack(b"PK\x06\x07", 0, behind, 1)
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, size, start, 0)
    return bytes(out + directory + end_64 + locator + end)


def _sizes(record: Record) -> tuple[int, int, int]:
    crc = zlib.crc32(record.data) if record.crc is None else record.crc
    return crc, len(record.data), len(record.data) if record.size is None else record.size
