"""The surroundings of a load: a folder, silence about ourselves, poisoned memory, caught failures.

Apart from the pipeline because loading for training needs the very same.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pytest_ckptload.examine.progress import stage
from pytest_ckptload.machine.accelerator import accelerator, synchronise
from pytest_ckptload.machine.device_memory import Taken, taken_on
from pytest_ckptload.machine.process_state import undisturbed
from pytest_ckptload.machine.torch_state import Kept, poisoned, preserved

__all__ = ["Loaded", "attempt", "emptied", "folder", "quiet", "renamed", "without"]


_CPU = torch.device("cpu")


@contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Warnings of torch's about what the plugin does itself are nobody's; the loader's are
    shown. Yields the list that those from inside go to.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield said


@contextmanager
def without(said: Iterable[warnings.WarningMessage]) -> Iterator[None]:
    """Warnings that were given before, by eager loading, are not the loader's, either; not even
    where the caller has warnings raised.
    """
    with warnings.catch_warnings():
        for text, category in {(str(told.message), told.category) for told in said}:
            warnings.filterwarnings("ignore", rf"{re.escape(text)}\Z", category)
        yield


@contextmanager
def folder(given: Path | None = None) -> Iterator[Path]:
    """A fresh folder, gone afterwards; or the given one, emptied afterwards.

    Raises ``ValueError`` where the given one holds anything: it is not ours to empty.
    """
    if given is None:
        with tempfile.TemporaryDirectory(prefix="ckptload-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    if left := next(given.iterdir(), None):
        raise ValueError(f"{given} is not empty, and would be emptied: it holds {left.name}")
    try:
        yield given
    finally:
        emptied(given)


def emptied(folder: Path) -> None:
    """Delete all that is in a folder that was made for cases alone.

    Unlinked, never written over: a module of the last case may still be mapped to its file.
    """
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink()


_NUMBERS = itertools.count(1)


def renamed(path: Path) -> Path:
    """The file under a name of its own in this process: a loader may keep what it has read by path.

    Torch writes a file's name into it, so all are written under one name first.
    """
    return path.rename(path.with_name(f"{path.stem}-{next(_NUMBERS)}{path.suffix}"))


@dataclass
class Loaded:
    """What a load returned, or the error that it raised, in which state it left torch, and what it
    took of its device's memory.
    """

    returned: Any = None
    error: BaseException | None = None
    left: Kept = field(default_factory=Kept)
    taken: Taken | None = None


def attempt(
    load: Callable[[], Any],
    device: torch.device = _CPU,
    *,
    fill: bool = True,
    part: str = "load",
) -> Loaded:
    """Run a load to ``device`` with new memory poisoned, to the end of all that it set going there.

    A failure need not be an ``Exception``; an interrupt, and what test runners raise, is none of
    it. ``part`` is what is said to be under way.
    """
    here = os.getpid()
    left = Kept()
    try:
        # Poisoned from outside: what it sets is nothing that the load has changed.
        with stage(part), poisoned(fill=fill), preserved() as left, undisturbed():
            with taken_on(device) as taken:
                returned = load()
            _synchronise(device)
        return Loaded(returned, None, left, taken)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if _of_a_runner(error):
            raise
        return Loaded(None, error, left)
    finally:
        if os.getpid() != here:
            # A copy that the loader forked: there is one examination, and it is not this one.
            os._exit(0)


def _synchronise(device: torch.device) -> None:
    """Wait for copies that do not block their caller."""
    current = accelerator()
    if current is not None and device.type == current.type:
        synchronise(device)


def _of_a_runner(error: BaseException) -> bool:
    """Whether pytest or Hypothesis raised it: a skip, say, or an assumption that does not hold."""
    outcomes = sys.modules.get("_pytest.outcomes")
    if outcomes is not None and isinstance(error, outcomes.OutcomeException):
        return True
    return type(error).__module__.startswith(("_pytest.", "hypothesis."))
