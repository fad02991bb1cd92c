"""What a kind of damage is.

Apart from the kinds so that each file of them needs nothing else of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Alter", "Kind", "Replace", "grid"]

Alter = Callable[[bytes, float], bytes]
Replace = Callable[[Path], AbstractContextManager[None]]


def grid(steps: int, first: float = 0.5) -> tuple[float, ...]:
    """The beginnings of so many equal parts of [0, 1), and ``first`` before all others."""
    return tuple(dict.fromkeys((first, *(step / steps for step in range(steps)))))


@dataclass(frozen=True)
class Kind:
    """One thing that can be done to a file.

    ``sentence`` goes on from "the file was …", and may speak of ``{where}``. ``alter`` makes the
    file's bytes afterwards from those before and a place in [0, 1); where a file has nothing of the
    kind that is to be damaged it stays as it is. ``replace`` puts something that is no file into
    the path's place instead. ``places`` are those worth trying, simplest first; a kind that has no
    use for them has one. ``hostile`` kinds run code, ``slow`` ones take a second to be refused.
    """

    sentence: str
    alter: Alter | None = None
    replace: Replace | None = None
    places: tuple[float, ...] = (0.5,)
    hostile: bool = False
    slow: bool = False
