"""How long a load may take, and how much memory.

Apart from the worker so that the rules of thumb stand in one place. A limit that nobody asked for
is there to end what would not end, so it has to be out of reach of whatever works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pytest_ckptload.examine.progress import Board

__all__ = ["Limits", "free_memory"]

_SECONDS = 30.0
_LEAST_AFTER_A_HANG = 1.0
_TIMES_THE_USUAL = 20

# The time that these take depends on the user's file alone.
_UNLIMITED = ("idle", "reading")


@dataclass(frozen=True)
class Limits:
    """``seconds`` for a load, ``memory`` in bytes beyond what the process held before it.

    Where ``seconds`` is ``None`` a load has 30, or 20 times what the eager one took. Where
    ``memory`` is ``None`` a load has half of what is free, or with ``roomy`` as much as there is:
    of a model or a file of the user's own nobody knows what it takes.
    """

    seconds: float | None = None
    memory: int | None = None
    roomy: bool = False
    hung: bool = False

    def after_a_hang(self) -> Limits:
        """The limits from now on: a loader that hangs once is not waited for as long again."""
        return replace(self, hung=True)

    def time(self, board: Board) -> float | None:
        """The seconds that the part under way may take; ``None`` for as long as it likes."""
        if board.stage in _UNLIMITED:
            return None
        limit = self.seconds
        if limit is None:
            limit = max(_SECONDS, _TIMES_THE_USUAL * board.reference)
        usual = {"load": board.slowest, "reference": board.reference}.get(board.stage)
        if usual is None:
            return max(limit, _SECONDS)  # the limit is for loads; this is work of ours
        if self.hung:
            limit = min(limit, max(_LEAST_AFTER_A_HANG, _TIMES_THE_USUAL * usual))
        return limit

    def bytes(self) -> int | None:
        """The bytes that a load may take; ``None`` where there is no telling."""
        if self.memory is not None:
            return self.memory
        free = free_memory()
        return None if free is None or self.roomy else free // 2


def free_memory() -> int | None:
    """The bytes that are to be had before the machine, or its container, runs out of memory.

    ``None`` where the system does not tell.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        known = dict(line.split(":", 1) for line in lines)
        free = int(known["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or one without a limit
        return free
    return max(0, min(free, most - used))
