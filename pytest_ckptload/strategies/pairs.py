"""Pairs of features, for the covering set: of those that have too few variants of their own.

Apart from the cases because it only says which features meet, and leaves making the case to others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from pytest_ckptload.case import Case
from pytest_ckptload.zoo.feature import Feature

__all__ = ["LEAST", "paired"]

LEAST = 5
"""In so many cases of the covering set is every feature that finds enough others to be with."""


def paired(
    features: Sequence[Feature],
    covered: Mapping[str, int],
    make: Callable[[list[Feature]], Case],
) -> Iterator[Case]:
    """Cases with two features each, until every one is in ``LEAST`` cases or was with all others.

    ``covered`` counts the cases that each feature is in already; those in none are left alone: they
    do not go with the module. ``make`` makes a case with the features it is given, as far as they
    can be together.
    """
    seen = Counter(covered)
    able = {feature.name: feature for feature in features if seen[feature.name]}
    # Of two features whose files are refused, one would hide the other.
    untried = {
        name: [n for n in able if n != name and (feature.loadable or able[n].loadable)]
        for name, feature in able.items()
    }
    while wanted := [name for name in able if seen[name] < LEAST and untried[name]]:
        one = min(wanted, key=lambda name: seen[name])
        other = min(untried[one], key=lambda name: _rank(able[one], able[name], seen[name]))
        untried[one].remove(other)
        untried[other].remove(one)
        case = make([feature for name, feature in able.items() if name in (one, other)])
        if {one, other} <= set(case.features):
            seen.update(case.features)
            yield case


def _rank(one: Feature, other: Feature, count: int) -> tuple[bool, bool, int]:
    """The lower the better a partner: one that is wanted itself, and changes the other half."""
    return count >= LEAST, other.of == one.of, count
