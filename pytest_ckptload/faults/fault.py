"""What a fault is. Apart from the faults so that each of their files is a list of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Fault"]


@dataclass(frozen=True)
class Fault:
    """A broken loader (or resumer, with ``training``), the rule that must catch it, and its
    sibling.

    ``promises`` are those under which it is a fault at all; ``advice`` says that the rule only
    advises. ``beyond`` are the features that the sibling gets wrong, too: it is correct without.
    """

    code: str
    broken: Callable[..., Any]
    sibling: Callable[..., Any]
    references: tuple[str, ...]
    promises: tuple[str, ...] = ()
    training: bool = False
    advice: bool = False
    beyond: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the broken function."""
        return self.broken.__name__
