"""What stands in a file's place and is none: a folder, a pipe, a device without an end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_ckptload.damage.kind import Kind

__all__ = ["KINDS"]

# How long an open for reading may have to wait.
_PAUSE = 0.001
_ZERO = Path("/dev/zero")


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    path.unlink()
    path.mkdir()
    yield


@contextmanager
def _pipe(path: Path) -> Iterator[None]:
    """A pipe from which every reader has its end at once, as long as the context lasts."""
    path.unlink()
    os.mkfifo(path)
    ended = threading.Event()

    def write() -> None:
        # An open for writing that waited for a reader might wait for ever.
        while not ended.wait(_PAUSE):
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                continue  # nobody reads, or the pipe is gone

    thread = threading.Thread(target=write, name="ckptload-pipe", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _zeros(path: Path) -> Iterator[None]:
    path.unlink()
    path.symlink_to(_ZERO)
    yield


KINDS = {"special-folder": Kind("replaced by a folder", replace=_folder)}
if hasattr(os, "mkfifo"):
    KINDS["special-pipe"] = Kind("replaced by a pipe into which nobody writes", replace=_pipe)
if _ZERO.exists():
    KINDS["special-zero"] = Kind(f"replaced by a link to {_ZERO}", replace=_zeros)
