"""A case whose checkpoint is on disk, as tests that ask for one are handed it.

Apart from ``case``, which is pure data, and from the pipeline, which writes files that nobody
else sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pytest_ckptload.case import Case
from pytest_ckptload.contents import state_of, write
from pytest_ckptload.examine.subject import Subject

__all__ = ["WrittenCase"]


@dataclass(frozen=True, eq=False, repr=False)
class WrittenCase:
    """A case whose checkpoint is on disk.

    ``path`` is the file, ``state`` what it holds: the tensors by their names. ``case`` is the data
    that both were made from.
    """

    case: Case
    path: Path
    state: Mapping[str, Any]

    @classmethod
    def of(cls, case: Case, where: Path) -> WrittenCase:
        """The case, its checkpoint written into the folder ``where``."""
        subject = Subject.of(case)
        state = state_of(subject.fresh, subject.structure, case.checkpoint)
        path = where / "checkpoint.pt"
        write(state, path, case.checkpoint)
        return cls(case, path, state)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of what the case contains that loaders get wrong."""
        return self.case.features

    def build(self) -> nn.Module:
        """A fresh module, the same every time, on the ambient device."""
        return self.case.build()

    def __repr__(self) -> str:
        return repr(self.case)
