"""What was tried, and how often: of cases, their features, classes, dtypes and optimizers.

Apart because everybody along the way counts into it: a search, the report of a check, the summary
of a session. It is plain counts, which go through JSON and know neither torch nor pytest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_ckptload.case import Case

__all__ = ["Tried", "pair"]


def pair(one: str, other: str) -> str:
    """The name of a pair of features, whichever comes first."""
    return "+".join(sorted((one, other)))


@dataclass
class Tried:
    """How many cases there were, and in how many of them each thing was.

    ``pairs`` are those of features, each under the name that ``pair`` gives it.
    """

    cases: int = 0
    features: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    optimizers: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)

    def add(self, case: Case, dtypes: Iterable[str] = (), optimizer: str | None = None) -> None:
        """Count a case. What the case itself does not tell comes from who made its file:
        ``optimizer`` is the name of what made one, where the case has none of its own.
        """
        self.cases += 1
        self.features.update(case.features)
        self.classes.update(case.classes())
        self.dtypes.update(dtypes)
        if optimizer is not None:
            self.optimizers[case.optimizer.factory if case.optimizer else optimizer] += 1
        self.pairs.update(pair(*two) for two in combinations(case.features, 2))

    def merge(self, other: Tried) -> None:
        """Count in what ``other`` counted."""
        self.cases += other.cases
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))

    def taken(self) -> Tried:
        """What was counted so far; counting starts again from nothing."""
        before = Tried.from_dict(self.as_dict())
        self.cases = 0
        for name in _COUNTERS:
            getattr(self, name).clear()
        return before

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON-able data."""
        return {"cases": self.cases} | {name: dict(getattr(self, name)) for name in _COUNTERS}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tried:
        """The counts that ``as_dict`` made data of."""
        return cls(data["cases"], *(Counter(data[name]) for name in _COUNTERS))


_COUNTERS = tuple(f.name for f in fields(Tried) if f.name != "cases")
