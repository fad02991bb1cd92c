"""Text that is safe to show, whatever the names in a file are.

Apart from the texts because all of them quote names, and a name may be anything: an escape sequence
that clears the terminal, a line break, a hundred thousand characters.
"""

from __future__ import annotations

import re

__all__ = ["described", "printable", "shortened"]

_MOST = 200
_LONG_WORD = re.compile(rf"\S{{{_MOST + 1},}}")


def printable(text: str) -> str:
    """The text on one line: what cannot be printed escaped, and of a word of more than 200
    characters no more than the first.
    """
    safe = "".join(c if c.isprintable() else _escaped(c) for c in text)
    return _LONG_WORD.sub(_shortened, safe)


def described(error: BaseException) -> str:
    """The type of an error and what it says, which may fail in itself."""
    try:
        text = str(error)
    except Exception:
        return f"{type(error).__name__}, which cannot say what it is"
    return f"{type(error).__name__}: {text}"


def shortened(value: object, most: int = 80) -> str:
    """The ``repr`` of anything, on one line and no longer than that."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:
        text = f"a {type(value).__name__} whose repr raises {type(error).__name__}"
    return text if len(text) <= most else text[:most] + "…"


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][:_MOST]}… ({len(word[0])} characters)"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
