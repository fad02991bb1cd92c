"""What loads say besides their verdict (output, warnings, log records), passed on to the parent.

Apart from the verdicts' way because it comes at any time, and has to arrive even where the process
dies the moment after. In the parent it goes where it would have gone without a worker: into
pytest's capture, its list of warnings, ``caplog``.
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import sys
import warnings
from collections.abc import Callable
from typing import Any

from pytest_ckptload.worker.portable import Classes

__all__ = ["deliver", "redirect"]

Send = Callable[[str, object], None]


def redirect(send: Send, classes: Classes) -> None:
    """In the child: have output, warnings and log records sent by ``send`` from now on.

    Streams with a file behind them stay: the child writes to the same file as its parent.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            stream.fileno()
            stream.reconfigure(write_through=True)
        except (AttributeError, OSError, ValueError):
            setattr(sys, name, _Forwarded(name, send))
    warnings.showwarning = _warn(send, classes)
    root = logging.getLogger()
    if root.handlers:
        root.handlers[:] = [_Forwarding(send)]


def deliver(kind: str, content: Any, classes: Classes) -> None:
    """In the parent: put what arrived where it belongs."""
    if kind == "output":
        name, text = content
        getattr(sys, name).write(text)
    elif kind == "warning":
        warnings.showwarning(*classes.loads(content))
    elif kind == "record":
        # Not through the record's own logger, whose handlers had it in the child.
        logging.getLogger().handle(content)
    else:
        raise ValueError(f"nobody knows messages of the kind {kind!r}")


class _Forwarded(io.TextIOBase):
    """A stream whose text is written by the parent."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, name: str, send: Send) -> None:
        self._name = name
        self._send = send

    @property
    def name(self) -> str:
        return f"<{self._name}>"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._send("output", (self._name, str(text)))
        return len(text)


class _Forwarding(logging.handlers.QueueHandler):
    """Sends records, made portable as for a queue."""

    def __init__(self, send: Send) -> None:
        super().__init__(send)  # type: ignore[arg-type]
        self._send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        self._send("record", record)


def _warn(send: Send, classes: Classes) -> Callable[..., None]:
    def showwarning(
        message: Warning, category: type[Warning], filename: str, lineno: int, *rest: object
    ) -> None:
        try:
            told = classes.dumps((message, category, filename, lineno))
        except Exception:  # of a class that was made in the worker, or with odd arguments
            plain = UserWarning(f"{category.__name__}: {message}")
            told = classes.dumps((plain, UserWarning, filename, lineno))
        send("warning", told)

    return showwarning
