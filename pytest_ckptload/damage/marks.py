"""The marks that hostile files leave where they are obeyed: code that ran, paths that climbed out.

Apart from the files because it looks at the machine afterwards, and cleans up.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from pytest_ckptload.damage.hostile import IMPORTED, MARK
from pytest_ckptload.damage.records import CLIMBED

__all__ = ["Marks", "watched"]

_LEVELS = 3
_SUFFIX = ".mark"


class Marks:
    """What may have been left behind since a file is watched.

    What a process left that died before it could be asked is removed first.
    """

    def __init__(self, path: Path) -> None:
        folder = path.absolute().parent
        self.mark = folder / f"{path.name}{_SUFFIX}"
        self._places = [near / CLIMBED for near in _near(folder)]
        self.remove()
        self.climbed()
        # Another user's, perhaps, and not ours to remove.
        self._places = [place for place in self._places if not os.path.lexists(place)]

    def executed(self) -> str | None:
        """What says that code from the file ran, or ``None`` where nothing does."""
        if os.path.lexists(self.mark):
            return "the mark file was written"
        return f"`{IMPORTED}` was imported" if IMPORTED in sys.modules else None

    def climbed(self) -> list[Path]:
        """The files that an unpacker left outside of its folder. They are removed."""
        found = [place for place in self._places if os.path.lexists(place)]
        for place in found:
            with suppress(OSError):
                place.unlink()
        return found

    def remove(self) -> None:
        """Remove the file that is the mark of code that ran."""
        with suppress(OSError):
            self.mark.unlink()


def _near(folder: Path) -> dict[Path, None]:
    """Where a path that climbs out of a likely folder ends."""
    temporary = Path(tempfile.gettempdir())
    near = [
        *islice((folder, *folder.parents), _LEVELS + 1),
        *islice((temporary, *temporary.parents), _LEVELS + 1),
    ]
    with suppress(FileNotFoundError):  # the working folder was deleted
        here = Path.cwd()
        near += islice((here, *here.parents), _LEVELS + 1)
    return dict.fromkeys(near)


@contextmanager
def watched(path: Path) -> Iterator[Marks]:
    """Watch for what a file's content does to the process while it is loaded from ``path``.

    Temporary files go into a folder beside it, deep enough that what climbs out of them is met here
    and nowhere else: other processes watch, too.
    """
    with _temporary_in(path.absolute().parent):
        yield from _watched(path)


def _watched(path: Path) -> Iterator[Marks]:
    marks = Marks(path)
    mark, module = os.environ.get(MARK), sys.modules.pop(IMPORTED, None)
    os.environ[MARK] = str(marks.mark)
    try:
        yield marks
    finally:
        if mark is None:
            os.environ.pop(MARK, None)
        else:
            os.environ[MARK] = mark
        sys.modules.pop(IMPORTED, None)
        if module is not None:
            sys.modules[IMPORTED] = module
        marks.remove()


@contextmanager
def _temporary_in(folder: Path) -> Iterator[None]:
    deep = folder.joinpath("temporary", *"ab")
    deep.mkdir(parents=True, exist_ok=True)
    directory, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(deep)
    try:
        yield
    finally:
        tempfile.tempdir = directory
        if variable is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(folder / "temporary", ignore_errors=True)
