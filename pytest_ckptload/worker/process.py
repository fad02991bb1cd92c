"""One worker process, from the fork to its end, as its parent sees it.

Apart from the child's half because nothing of a loader runs here, and from ``parent``, which keeps
one after the other. It is watched while it works: by the clock, and by the memory it holds.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from pytest_ckptload.case import Case
from pytest_ckptload.examine.progress import Board, resident
from pytest_ckptload.finding import Verdict
from pytest_ckptload.rules import Ending
from pytest_ckptload.worker import coverage, outlet
from pytest_ckptload.worker.child import serve
from pytest_ckptload.worker.limits import Limits
from pytest_ckptload.worker.portable import Classes

# Errors raised here are sentences for the caller, or come from elsewhere.
__tracebackhide__ = True

__all__ = ["Gone", "Process"]

# How often a worker at work is looked at, and how long it has to end when it is to.
_GLANCE = 0.05
_GRACE = 1.0

_IMPORTED: dict[str, None] = {}
"""Torch's own modules that workers had to import: the next is forked with them in place."""


class Gone(Exception):
    """The worker does not answer: for too long, with too much memory, or because it is dead."""

    def __init__(self, seconds: float | None = None, memory: int | None = None) -> None:
        super().__init__()
        self.seconds = seconds
        self.memory = memory


class _InWorker(Exception):
    """The traceback of an error in a worker, shown as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Process:
    """A worker process, forked on the spot, which tells on ``board`` what it does."""

    def __init__(self, work: Callable[[Case], Verdict], limits: Limits, board: Board) -> None:
        _import_what_workers_did()
        self._limits = limits
        self._memory = limits.bytes()
        self._first: int | None = None
        self._classes = Classes()
        self._board = board
        # Where a process that dies writes down where it was.
        self._trace = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._pipe, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=serve,
            args=(there, self._pipe, work, self._board, self._trace.fileno(), self._classes),
        )
        for stream in (sys.stdout, sys.stderr):
            with suppress(ValueError, OSError):  # closed, by somebody who is not our business
                stream.flush()
        with warnings.catch_warnings():
            # The child computes on one thread of its own. By its text: the child keeps the filter.
            warnings.filterwarnings(
                "ignore", message=".*multi-threaded.*fork", category=DeprecationWarning
            )
            self._process.start()
        there.close()

    def ask(self, case: Case) -> Verdict:
        """The verdict on a case. Raises ``Gone``, or what the examination raised."""
        self._board.enter("idle")
        try:
            self._pipe.send(case)
            while True:
                if not self._pipe.poll(_GLANCE):
                    self._look()
                    continue
                kind, content = self._pipe.recv()
                if kind == "verdict":
                    return content  # type: ignore[no-any-return]
                if kind == "error":
                    self._raise(*content)
                self._deliver(kind, content)
        except (EOFError, ConnectionError):
            raise Gone from None

    def _deliver(self, kind: str, content: Any) -> None:
        if kind == "imported":
            _IMPORTED.update(dict.fromkeys(name for name in content if name.startswith("torch.")))
        else:
            outlet.deliver(kind, content, self._classes)

    def _raise(self, error: bytes, trace: str, ours: bool) -> NoReturn:
        # Ours are sentences for the caller, which no traceback makes clearer.
        raise self._classes.loads(error) from (None if ours else _InWorker(trace))

    def outgrown(self) -> bool:
        """Whether what its loads left behind is more than one load may take: time for another."""
        held = resident(self._process.pid or 0)
        if self._memory is None or held is None:
            return False
        self._first = held if self._first is None else self._first
        return held - self._first > self._memory

    def _look(self) -> None:
        """Raises ``Gone`` where the process is dead, too late or too large."""
        if self._process.exitcode is not None:
            raise Gone
        limit = self._limits.time(self._board)
        if limit is not None and time.monotonic() - self._board.since > limit:
            raise Gone(seconds=limit)
        if self._memory is not None and self._board.stage not in ("idle", "writing", "reference"):
            held = resident(self._process.pid or 0)
            if held is not None and held - self._board.memory > self._memory:
                raise Gone(memory=self._memory)

    def ending(self, gone: Gone) -> Ending:
        """How the process ended, which it has afterwards."""
        if gone.seconds is not None:
            # Aborted, not killed: so it writes down where it was.
            with suppress(ProcessLookupError):
                os.kill(self._process.pid or 0, signal.SIGABRT)
        self._process.join(0 if gone.memory is not None else _GRACE)
        status = self._process.exitcode
        self._end()
        self._trace.seek(0)
        trace = self._trace.read().decode(errors="replace")
        self._trace.close()
        return Ending(
            self._board.stage, status, gone.seconds, gone.memory, trace, self._board.slowest
        )

    def leave(self) -> None:
        """Let the process end, and take what it has to hand over."""
        try:
            self._pipe.send(None)
            while self._pipe.poll(_GRACE):
                kind, content = self._pipe.recv()
                if kind == "bye":
                    coverage.add(content)
                    break
                self._deliver(kind, content)
        except (EOFError, ConnectionError):
            pass  # it died after its last case: there is nothing left to learn from it
        finally:
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._end()
        self._trace.close()

    def _end(self) -> None:
        """Kill what is left of the process and of those it started, and wait for it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


def _import_what_workers_did() -> None:
    for name in list(_IMPORTED):
        del _IMPORTED[name]
        with warnings.catch_warnings(), suppress(Exception):  # at worst the next imports it again
            warnings.simplefilter("ignore")
            importlib.import_module(name)
