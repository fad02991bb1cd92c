"""What part of an examination is under way, for whoever watches it from another process.

Apart from both sides: the pipeline says what it does, a worker's parent reads it when the worker is
gone or takes too long. Written through shared memory, so that it costs a microsecond and outlives
the process that wrote it.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["BOARD", "Board", "resident", "stage"]

# stage, since when, seconds of the last eager load, seconds of the slowest load, memory before it
_LAYOUT = struct.Struct("@idddq")
_STAGES = (
    "idle",
    "writing",
    "reading",
    "reference",
    "load",
    "observation",
    "behaviour",
    "training",
    "second load",
    "lifetime",
)


class Board:
    """The part that is under way, since when (seconds of the monotonic clock), and what the loads
    so far took.

    ``memory`` is what the process held, in bytes, when the load began; 0 where nobody watches.
    """

    def __init__(self) -> None:
        self._shared: mmap.mmap | bytearray = bytearray(_LAYOUT.size)
        self.watched = False

    @classmethod
    def shared(cls) -> Board:
        """A board on which this process sees what those write that it forks."""
        board = cls()
        board._shared = mmap.mmap(-1, mmap.PAGESIZE)
        board.watched = True
        return board

    def become(self, other: Board) -> None:
        """From now on, write to where ``other`` writes."""
        self._shared, self.watched = other._shared, other.watched

    def _read(self) -> tuple[int, float, float, float, int]:
        return _LAYOUT.unpack_from(self._shared)

    @property
    def stage(self) -> str:
        return _STAGES[self._read()[0]]

    @property
    def since(self) -> float:
        return self._read()[1]

    @property
    def reference(self) -> float:
        """The seconds that the last eager load took."""
        return self._read()[2]

    @property
    def slowest(self) -> float:
        """The seconds of the slowest load so far that came to an end."""
        return self._read()[3]

    @property
    def memory(self) -> int:
        return self._read()[4]

    def enter(self, stage: str) -> None:
        """From now on, ``stage``."""
        _, _, reference, slowest, memory = self._read()
        if stage == "load" and self.watched:
            memory = resident(os.getpid()) or 0
        self._write(stage, reference, slowest, memory)

    def leave(self, stage: str) -> None:
        """What was under way came to an end: from now on, ``stage``."""
        number, since, reference, slowest, memory = self._read()
        took = time.monotonic() - since
        if _STAGES[number] == "reference":
            reference = took
        elif _STAGES[number] == "load":
            slowest = max(slowest, took)
        self._write(stage, reference, slowest, memory)

    def _write(self, stage: str, reference: float, slowest: float, memory: int) -> None:
        number, now = _STAGES.index(stage), time.monotonic()
        _LAYOUT.pack_into(self._shared, 0, number, now, reference, slowest, memory)


BOARD = Board()
"""This process's own: the pipeline writes to it, whether or not anybody watches."""


@contextmanager
def stage(name: str) -> Iterator[None]:
    """The part called ``name`` is under way inside, and what was before is afterwards."""
    outer = BOARD.stage
    BOARD.enter(name)
    try:
        yield
    finally:
        BOARD.leave(outer)


def resident(process: int) -> int | None:
    """The bytes of memory that a process holds for itself, pages of files not counted.

    ``None`` where the system does not tell, or the process is gone.
    """
    try:
        fields = Path(f"/proc/{process}/statm").read_bytes().split()
    except OSError:
        return None
    return (int(fields[1]) - int(fields[2])) * mmap.PAGESIZE
