"""What a session tried, and what of all there is it never tried, as lines of text.

Apart from the counts, which know nothing of what there is to count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations
from textwrap import wrap

from torch import nn

from pytest_ckptload.machine.dtypes import FILLED, known
from pytest_ckptload.tried import Tried, pair
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.catalogue import CATALOGUE
from pytest_ckptload.zoo.optimizers import OPTIMIZERS

__all__ = ["coverage_lines"]

_WIDTH = 100

# So many of the pairs that were never tried are named: there may be a thousand.
_PAIRS_NAMED = 12

# Upper ends of the ranges that the counts of pairs fall into.
_RANGES = {1: "once", 4: "2 to 4 times", 19: "5 to 19 times"}
_BEYOND = "more often"

# A space that no line is broken at, until the lines are made.
_TOGETHER = "\u00a0"


def coverage_lines(tried: Tried) -> Iterator[str]:
    """The lines to print: for each kind what was never tried, and the rest with the rarest first.

    Classes that only features bring along are named where they were tried: their features tell.
    """
    yield f"{tried.cases} cases"
    yield from _counts("features", tried.features, FEATURES)
    of_torch = Counter({n: count for n, count in tried.classes.items() if hasattr(nn, n)})
    yield from _counts("classes of torch.nn", of_torch, CATALOGUE)
    yield from _counts("classes and edits of features", tried.classes - of_torch, ())
    yield from _counts("dtypes", tried.dtypes, known(FILLED))
    yield from _counts("optimizers", tried.optimizers, OPTIMIZERS)
    yield from _pairs(tried.pairs)


def _counts(title: str, counts: Counter[str], there: Iterable[str]) -> Iterator[str]:
    there_are = dict.fromkeys((*there, *counts))
    never = [name for name in there_are if name not in counts]
    yield ""
    yield f"{title}: {len(there_are) - len(never)} of {len(there_are)}"
    if never:
        yield from _flowing(f"never: {', '.join(never)}")
    rarest_first = sorted(counts.items(), key=lambda item: (item[1], item[0]))
    yield from _flowing(", ".join(f"{name}{_TOGETHER}{count}" for name, count in rarest_first))


def _pairs(counts: Counter[str]) -> Iterator[str]:
    there_are = dict.fromkeys((*(pair(*two) for two in combinations(FEATURES, 2)), *counts))
    never = [name for name in there_are if name not in counts]
    yield ""
    yield f"pairs of features: {len(there_are) - len(never)} of {len(there_are)}"
    if never:
        rest = len(never) - _PAIRS_NAMED
        more = f", and {rest} more" if rest > 0 else ""
        yield from _flowing(f"never: {', '.join(never[:_PAIRS_NAMED])}{more}")
    ranges = Counter(_range(count) for count in counts.values())
    told = [f"{name} {ranges[name]}" for name in (*_RANGES.values(), _BEYOND) if ranges[name]]
    yield from _flowing(", ".join(told))


def _range(count: int) -> str:
    return next((name for end, name in _RANGES.items() if count <= end), _BEYOND)


def _flowing(text: str) -> list[str]:
    indent = "  "
    lines = wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [line.replace(_TOGETHER, " ") for line in lines]
