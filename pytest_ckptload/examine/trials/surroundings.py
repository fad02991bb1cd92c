"""The files around a checkpoint, before a load and after it: those beside it, and those open.

Apart from the checkpoint's own bytes, which are the pipeline's, because this looks at names and at
what the system says of the process.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Surroundings"]

_DESCRIPTORS = Path("/proc/self/fd")
_NEIGHBOUR = "neighbour.txt"
_CONTENTS = b"This stands beside a checkpoint, and is nobody's to change.\n"


@dataclass
class Surroundings:
    """What there was when a load began. ``path`` is the checkpoint's.

    A file is put beside it, whose folder must be ours: ``empty`` again afterwards.
    """

    path: Path

    def __post_init__(self) -> None:
        self._neighbour = self.path.with_name(_NEIGHBOUR)
        self._neighbour.write_bytes(_CONTENTS)
        self._names = {file.name for file in self.path.parent.iterdir()}
        self._open = _descriptors()

    def since(self) -> dict[str, Any]:
        """What is new, gone, altered and open now, as arguments of ``Aftermath``."""
        names = {file.name for file in self.path.parent.iterdir()}
        altered = _NEIGHBOUR in names and self._neighbour.read_bytes() != _CONTENTS
        return {
            "added": tuple(sorted(names - self._names)),
            # The checkpoint itself has a rule of its own.
            "removed": tuple(sorted(self._names - names - {self.path.name})),
            "altered": (_NEIGHBOUR,) if altered else (),
            "opened": tuple(sorted(self._opened())),
        }

    def _opened(self) -> set[str]:
        """The files in the checkpoint's place that were opened and not closed."""
        targets = set()
        for number in _descriptors() - self._open:
            with contextlib.suppress(OSError):  # closed by now, as that of the listing itself is
                targets.add(str((_DESCRIPTORS / number).readlink()))
        if not targets:
            return set()
        path, folder = os.path.realpath(self.path), os.path.realpath(self.path.parent)
        return {
            os.path.relpath(target, folder)
            for target in targets
            if target == path or target.startswith(path + os.sep)
        }


def _descriptors() -> set[str]:
    """The numbers of the open files, where the system lists them."""
    try:
        return {file.name for file in _DESCRIPTORS.iterdir()}
    except OSError:
        return set()
