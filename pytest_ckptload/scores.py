"""What became of mutants, as data: it goes through JSON, from xdist's workers to the summary.

Apart from where they are tried because the report speaks of them, and knows no checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["KILLED", "SURVIVED", "UNFIT", "Mutant", "Trial"]

KILLED, SURVIVED, UNFIT = "killed", "survived", "not applicable"


@dataclass(frozen=True)
class Mutant:
    """What became of a loader with one fault: ``"killed"`` by the rule of this ``code``,
    ``"survived"`` although that rule is there to find it, or ``"not applicable"``; and why.
    """

    fault: str
    code: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True)
class Trial:
    """The mutants of one loader, in one check; none where the loader itself did not pass."""

    loader: str
    mutants: tuple[Mutant, ...] = ()
    failed: str | None = None

    def those(self, outcome: str) -> list[Mutant]:
        """The mutants that this became of."""
        return [mutant for mutant in self.mutants if mutant.outcome == outcome]

    def as_dict(self) -> dict[str, Any]:
        """The trial as JSON-able data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trial:
        """The trial that ``as_dict`` made data of."""
        mutants = tuple(Mutant(**mutant) for mutant in data["mutants"])
        return cls(data["loader"], mutants, data["failed"])
