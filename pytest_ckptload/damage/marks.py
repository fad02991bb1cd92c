"""The marks that hostile files leave where they are obeyed: code that ran, paths that climbed out.

Apart from the files because it looks at the machine afterwards, and cleans up.
"""

from __future__ import annotations

import os
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
    """What may have been left behind since a file is watched."""

    def __init__(self, path: Path) -> None:
        self._folder = path.absolute().parent
        self.mark = str(self._folder / f"{path.name}{_SUFFIX}")

    def executed(self) -> str | None:
        """What says that code from the file ran, or ``None`` where nothing does."""
        if os.path.lexists(self.mark):
            return "the mark file was written"
        return f"`{IMPORTED}` was imported" if IMPORTED in sys.modules else None

    def climbed(self) -> list[Path]:
        """The files that an unpacker left outside of its folder. They are removed."""
        found = []
        for folder in self._folders():
            path = folder / CLIMBED
            if os.path.lexists(path):
                with suppress(OSError):
                    path.unlink()
                found.append(path)
        return found

    def _folders(self) -> dict[Path, None]:
        """Where a path that climbs out of a likely folder ends."""
        folder, temporary, here = self._folder, Path(tempfile.gettempdir()), Path.cwd()
        near = [*islice((folder, *folder.parents), _LEVELS + 1), temporary, temporary.parent]
        near += islice((here, *here.parents), _LEVELS + 1)
        return dict.fromkeys(near)


@contextmanager
def watched(path: Path) -> Iterator[Marks]:
    """Watch for what a file's content does to the process while it is loaded from ``path``."""
    marks = Marks(path)
    mark, module = os.environ.get(MARK), sys.modules.pop(IMPORTED, None)
    os.environ[MARK] = marks.mark
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
        with suppress(FileNotFoundError):
            os.unlink(marks.mark)  # noqa: PTH108
