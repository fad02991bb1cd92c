"""Errors and warnings on their way from a worker to its parent, as what they are.

Apart because pickling alone would not do: many of their classes cannot be imported by name, such as
pytest's outcomes and a test's own. Both processes had them before the fork, in the same order.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import Any

__all__ = ["Classes"]


class Classes:
    """The classes of errors and warnings that there are now, which a fork will have as well."""

    def __init__(self) -> None:
        self._known = list(dict.fromkeys(_below(BaseException)))
        self._numbers = {id(kind): number for number, kind in enumerate(self._known)}

    def dumps(self, thing: object) -> bytes:
        """``thing`` as bytes that ``loads`` makes the same of. Raises whatever keeps it from it."""
        buffer = io.BytesIO()
        pickler = _Pickler(buffer)
        pickler.numbers = self._numbers
        pickler.dump(thing)
        self.loads(buffer.getvalue())
        return buffer.getvalue()

    def loads(self, data: bytes) -> Any:
        """What ``dumps`` made bytes of."""
        unpickler = _Unpickler(io.BytesIO(data))
        unpickler.known = self._known
        return unpickler.load()


class _Pickler(pickle.Pickler):
    numbers: dict[int, int]

    def persistent_id(self, thing: object) -> int | None:
        return self.numbers.get(id(thing)) if isinstance(thing, type) else None


class _Unpickler(pickle.Unpickler):
    known: list[type]

    def persistent_load(self, number: int) -> type:
        return self.known[number]


def _below(kind: type) -> Iterator[type]:
    yield kind
    children: list[type] = type.__subclasses__(kind)
    for child in children:
        yield from _below(child)
