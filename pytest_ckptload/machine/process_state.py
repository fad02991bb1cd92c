"""What a process has but one of: its folder, environment, signal handlers and standard streams.

Apart from torch's state because none of it is torch's. A loader may change all of it, for the tests
that follow as much as for the next load of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["undisturbed"]

_STANDARD = (0, 1, 2)
# Those that libraries handle; to ask for all 64 takes as long as a small load.
_NAMES = "INT TERM HUP ALRM CHLD PIPE USR1 USR2 SEGV BUS FPE ILL ABRT"
_SIGNALS = tuple(
    getattr(signal, f"SIG{name}") for name in _NAMES.split() if hasattr(signal, f"SIG{name}")
)


@contextmanager
def undisturbed() -> Iterator[None]:
    """All of it is afterwards what it was before, whatever happened inside.

    ``sys.stdout`` and ``sys.stderr`` cannot be closed inside; descriptors that were are opened
    again.
    """
    # Only the main thread may set handlers, so only there can there be something to undo.
    handlers = _handlers() if threading.current_thread() is threading.main_thread() else {}
    folder, environment = _folder(), _environment()
    streams = sys.stdin, sys.stdout, sys.stderr
    copies = {descriptor: _copy(descriptor) for descriptor in _STANDARD}
    sys.stdout, sys.stderr = _Unclosable(sys.stdout), _Unclosable(sys.stderr)
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        for descriptor, copy in copies.items():
            if copy is not None:
                if not _same_file(descriptor, copy):
                    os.dup2(copy, descriptor)
                os.close(copy)
        if folder is not None and _folder() != folder:
            os.chdir(folder)
        if _environment() != environment:
            _set_environment(environment)
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


class _Unclosable:
    """A stream like the one it stands for, but for ``close``."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def close(self) -> None:
        with suppress(ValueError):  # closed before
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._stream)


def _handlers() -> dict[int, Any]:
    """The handlers that Python knows of; those of other languages it could not set again."""
    known = {number: signal.getsignal(number) for number in _SIGNALS}
    return {number: handler for number, handler in known.items() if handler is not None}


def _environment() -> dict[Any, Any]:
    """The variables as they are stored: decoding them all takes a hundred times as long."""
    return os.environ._data.copy()  # type: ignore[attr-defined,no-any-return]


def _set_environment(stored: dict[Any, Any]) -> None:
    decode_key, decode_value = os.environ.decodekey, os.environ.decodevalue
    wanted = {decode_key(name): decode_value(value) for name, value in stored.items()}
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update(wanted)


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  (a string, for the pass that it takes in every load)
    except FileNotFoundError:
        return None


def _copy(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:  # closed before
        return None


def _same_file(descriptor: int, copy: int) -> bool:
    try:
        return os.path.sameopenfile(descriptor, copy)
    except OSError:
        return False
