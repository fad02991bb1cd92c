"""Archives with another pickle than torch wrote.

Apart from ``hostile`` because nothing here runs any code: these are deep, or lie about sizes.
"""

from __future__ import annotations

import itertools
import pickletools
from collections.abc import Callable
from dataclasses import replace

from pytest_ckptload.damage.kind import Alter, Kind, grid
from pytest_ckptload.damage.layout import packed, records_of

__all__ = ["KINDS", "with_pickle"]

_DEPTH = 10**6
_NESTED = b"\x80\x02)" + b"\x85" * _DEPTH + b"."


def with_pickle(data: bytes, pickle: bytes) -> bytes:
    """The archive with another pickle."""
    return packed(
        replace(record, data=pickle) if record.name.endswith("/data.pkl") else record
        for record in records_of(data)
    )


def _pickle_of(data: bytes) -> bytes:
    return next(r.data for r in records_of(data) if r.name.endswith("/data.pkl"))


def _storage_of(size: Callable[[int], int]) -> Alter:
    """The change that has the pickle speak of another number of elements in one storage."""

    def alter(data: bytes, where: float) -> bytes:
        pickle = _pickle_of(data)
        counts = _counts(pickle)
        if not counts:
            return data
        start, end, count = counts[int(len(counts) * where)]
        lie = b"\x8a\x08" + size(count).to_bytes(8, "little", signed=True)
        return with_pickle(data, pickle[:start] + lie + pickle[end:])

    return alter


def _counts(pickle: bytes) -> list[tuple[int, int, int]]:
    """Where the numbers of elements of storages begin and end, and what they are.

    Torch writes a storage as ``("storage", type, key, location, number)`` and BINPERSID.
    """
    found = []
    number = (0, 0, 0)
    ops = list(pickletools.genops(pickle))
    for (op, value, start), (_, _, end) in itertools.pairwise(ops):
        if op.name in ("BININT", "BININT1", "BININT2", "LONG1"):
            assert isinstance(value, int)
            assert start is not None
            assert end is not None
            number = start, end, value
        elif op.name == "BINPERSID" and number[2]:
            found.append(number)
    return found


KINDS = {
    "storage-larger": Kind(
        "given a pickle with a storage 1000 times too large",
        _storage_of(lambda count: 1000 * count),
        places=grid(4, first=0.0),
    ),
    "storage-absurd": Kind(
        "given a pickle with a storage of 2**60 elements",
        _storage_of(lambda count: 2**60 + count),
        places=grid(4, first=0.0),
    ),
    "pickle-nested": Kind(
        f"given a pickle of {_DEPTH:,} nested tuples",
        lambda data, where: with_pickle(data, _NESTED),
        slow=True,
    ),
}
