"""What the entries of the catalogue can make, for the tests that go through it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ckptload.zoo.catalogue import CATALOGUE, Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_ckptload.case import ModuleSpec

each_entry = pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda entry: entry.name)


def mixtures(entry: Entry) -> Iterator[ModuleSpec]:
    """Every module that the entry can make."""
    for picks in itertools.product(*_offered(entry)):
        yield _made(entry, picks)


def departures(entry: Entry) -> Iterator[ModuleSpec]:
    """The simplest module, then those that differ from it in one choice."""
    simplest = [options[0] for options in _offered(entry)]
    yield _made(entry, simplest)
    for index, options in enumerate(_offered(entry)):
        for other in options[1:]:
            yield _made(entry, [*simplest[:index], other, *simplest[index + 1 :]])


def _offered(entry: Entry) -> list[tuple[Any, ...]]:
    return [options for options in entry.choices.values() if len(options) > 1]


def _made(entry: Entry, picks: Sequence[Any]) -> ModuleSpec:
    remaining = iter(picks)

    def choose(options: Sequence[Any], /) -> Any:
        pick = next(remaining)
        assert pick in options, "choices are not made in the order in which they stand"
        return pick

    return entry.spec(choose)
