"""The child's half of a worker: it examines what it is sent until it is told to leave, or dies.

Apart from the parent's half because all of this runs in the forked process, which is to look to a
loader like the one it was forked from, and to leave nothing behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import torch

from pytest_ckptload.case import Case
from pytest_ckptload.examine.progress import BOARD, Board
from pytest_ckptload.finding import Verdict
from pytest_ckptload.printable import described
from pytest_ckptload.worker import coverage, outlet
from pytest_ckptload.worker.portable import Classes

__all__ = ["serve"]

_PACKAGE = str(Path(__file__).parent.parent)
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def serve(
    pipe: Connection,
    parents: Connection,
    examine: Callable[[Case], Verdict],
    board: Board,
    trace: int,
    classes: Classes,
) -> NoReturn:
    """Examine cases from ``pipe`` until ``None`` comes, and leave the process.

    ``parents`` is the other end, which the fork copied; ``trace`` is the file that a fatal signal
    writes its stack to.
    """
    parents.close()
    _settle(trace)
    BOARD.become(board)
    send = _Sender(pipe)
    outlet.redirect(send, classes)
    known = set(sys.modules)
    try:
        while (case := pipe.recv()) is not None:
            answer = _answer(examine, case, classes)
            if len(sys.modules) > len(known):
                # At once: the next load may be the last of this process.
                send("imported", [name for name in sys.modules if name not in known])
                known = set(sys.modules)
            send(*answer)
        send("bye", coverage.collected())
    except (EOFError, OSError, KeyboardInterrupt):
        pass  # the parent is gone, or about to go
    finally:
        # Without what Python does at exit: all of it is the parent's to do.
        os._exit(0)


class _Sender:
    """Sends messages, one thread at a time, and from no process that a loader forked."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __call__(self, kind: str, content: object) -> None:
        if os.getpid() == self._process:
            with self._lock:
                self._pipe.send((kind, content))


def _settle(trace: int) -> None:
    # A group of its own, so that nothing that a loader starts outlives it.
    os.setpgid(0, 0)
    with contextlib.suppress(OSError, AttributeError):  # Linux: dies with its parent
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    with contextlib.suppress(OSError):  # Linux: the first to be killed where memory runs out
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        import resource
    except ImportError:
        pass
    else:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    faulthandler.enable(trace, all_threads=False)
    # The pools of threads that torch keeps did not survive the fork, and it would wait for them.
    torch.set_num_threads(1)
    torch.set_num_threads = _nothing  # type: ignore[assignment]
    # What the parent holds is not this process's to collect, and copying its pages takes time.
    gc.freeze()


def _nothing(number: int) -> None:
    """In the place of ``torch.set_num_threads``."""


def _answer(examine: Callable[[Case], Verdict], case: Case, classes: Classes) -> tuple[str, Any]:
    try:
        return "verdict", examine(case)
    except BaseException as error:
        return "error", (_portable(error, classes), traceback.format_exc(), _ours(error))
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError, OSError):  # closed by the loader
                stream.flush()


def _portable(error: BaseException, classes: Classes) -> bytes:
    """The error, or what can be said of it where it does not go through a pipe."""
    try:
        return classes.dumps(error)
    except Exception:
        return classes.dumps(RuntimeError(described(error)))


def _ours(error: BaseException) -> bool:
    """Whether the error was raised by this package, and by no other error: then it is a sentence
    for the caller.
    """
    if error.__cause__ is not None:
        return False
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_code.co_filename.startswith(_PACKAGE)
