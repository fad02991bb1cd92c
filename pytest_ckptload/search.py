"""The search for a case that shows a finding, and for the smallest such case.

Apart from the pipeline, which judges one case and knows nothing of Hypothesis. First comes the
covering set, whose cases are minimal by construction; then Hypothesis draws, and shrinks what it
finds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import Phase, Verbosity, given, settings
from hypothesis import seed as with_seed
from hypothesis.control import currently_in_test_context
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from pytest_ckptload.case import Case
from pytest_ckptload.finding import Finding, Verdict
from pytest_ckptload.rules.causes import folded
from pytest_ckptload.tried import Tried

__all__ = ["Budget", "Found", "Outcome", "search"]

# A process that dies is expensive. So many deaths a search may cost, and so many in a row tell that
# the loader dies of whatever it is given.
_MOST_DEATHS = 10
_DEATHS_IN_A_ROW = 3

Examine = Callable[[Case], Verdict]


@dataclass(frozen=True)
class Budget:
    """How much to search, and from where.

    ``max_examples`` bounds the random cases, after the covering set; ``None`` leaves it to
    Hypothesis' settings. ``key`` names the search in Hypothesis' database; ``seed`` fixes what is
    drawn. ``hasty`` ends it at the first case with a finding, which need not be the smallest.
    """

    max_examples: int | None = None
    seed: int | None = None
    shrink: bool = True
    key: str = ""
    hasty: bool = False


@dataclass(frozen=True)
class Found:
    """A case and what was found on it: first what explains the rest."""

    case: Case
    findings: tuple[Finding, ...]


@dataclass
class Outcome:
    """What a search saw.

    ``failure`` is the smallest case of the first rule that was broken, ``others`` one case for each
    other rule. ``advice`` holds one finding for each rule that advises. ``tried`` says what was in
    the cases. ``judged`` counts the cases that could be judged, ``refused`` holds the reference's
    errors for files that it refused, which were not judged.
    ``deaths`` counts the cases that the loader brought its process down with, ``cut`` says that the
    search ended early because of them. ``notes`` are what verdicts had to say besides.
    """

    examples: int = 0
    failure: Found | None = None
    others: list[Found] = field(default_factory=list)
    advice: dict[str, Finding] = field(default_factory=dict)
    tried: Tried = field(default_factory=Tried)
    flaky: bool = False
    judged: int = 0
    refused: list[str] = field(default_factory=list)
    deaths: int = 0
    cut: bool = False
    notes: dict[str, None] = field(default_factory=dict)


def search(
    examine: Examine,
    covering: Iterable[Case],
    random: SearchStrategy[Case] | None,
    budget: Budget,
    allow: Callable[[Finding, Case], str | None] = lambda finding, case: None,
    strict: bool = False,
) -> Outcome:
    """Look for a case on which ``examine`` finds something that is not allowed.

    With ``strict``, advice counts as well.
    """
    outcome = Outcome()
    deadly: dict[str, tuple[Finding, ...]] = {}

    def failing(case: Case) -> tuple[Finding, ...]:
        key = _text(case) if deadly else ""
        if key in deadly:
            return deadly[key]
        if outcome.deaths >= _MOST_DEATHS:
            outcome.cut = True
            return ()
        outcome.examples += 1
        unallowed = []
        verdict = examine(case)
        outcome.tried.add(case, verdict.dtypes, verdict.optimizer)
        outcome.judged += verdict.judged
        outcome.notes.update(dict.fromkeys(verdict.notes))
        if verdict.refused is not None:
            outcome.refused.append(verdict.refused)
        for finding in verdict.findings:
            if allow(finding, case) is not None:
                continue
            if finding.advice and not strict:
                outcome.advice.setdefault(finding.code, finding)
            else:
                unallowed.append(finding)
        # After the allowances: what is allowed must not take along what it explains.
        kept = folded(unallowed)
        if verdict.died and kept:
            outcome.deaths += 1
            deadly[_text(case)] = kept
        return kept

    _cover(failing, covering, outcome, budget.hasty)
    if outcome.failure is None and random is not None:
        _explore(failing, random, budget, outcome)
    return outcome


def _cover(
    failing: Callable[[Case], tuple[Finding, ...]],
    covering: Iterable[Case],
    outcome: Outcome,
    hasty: bool,
) -> None:
    """Go through all fixed cases: for each rule that is broken the smallest, smallest first."""
    smallest: dict[str, Found] = {}
    in_a_row = 0
    for case in covering:
        before = outcome.deaths
        findings = failing(case)
        in_a_row = in_a_row + 1 if outcome.deaths > before else 0
        outcome.cut |= in_a_row == _DEATHS_IN_A_ROW
        if findings:
            code = findings[0].code
            if code not in smallest or _size(case) < _size(smallest[code].case):
                smallest[code] = Found(case, findings)
        if outcome.cut or (hasty and findings):
            break
    if smallest:
        outcome.failure, *outcome.others = sorted(smallest.values(), key=lambda f: _size(f.case))


def _text(case: Case) -> str:
    return case.to_json()


def _size(case: Case) -> tuple[int, int]:
    return len(case.features), len(_text(case))


class _Failing(Exception):
    """Raised for Hypothesis to see that a case fails."""


def _explore(
    failing: Callable[[Case], tuple[Finding, ...]],
    random: SearchStrategy[Case],
    budget: Budget,
    outcome: Outcome,
) -> None:
    target: list[str] = []

    def case_has_no_finding(case: Case) -> None:
        findings = failing(case)
        # Once a rule is broken only that rule counts, so that shrinking does not slip to another,
        # nor to a case where something else explains that it is broken.
        leading = {f.code: f for f in reversed(findings) if f.because_of is None}
        if findings and (not target or target[0] in leading):
            target[:] = target or [findings[0].code]
            first = leading[target[0]]
            rest = tuple(f for f in findings if f is not first)
            outcome.failure = Found(case, (first, *rest))
            raise _Failing

    run = _as_property(case_has_no_finding, random, budget)
    try:
        run()
    except _Failing:
        pass
    except Flaky:
        outcome.flaky = True


def _as_property(
    body: Callable[[Case], None], random: SearchStrategy[Case], budget: Budget
) -> Callable[[], None]:
    """``body`` as a Hypothesis test, with settings from the user's own, for one search."""
    parent = settings.default
    assert parent is not None
    phases = {Phase.explain} | (set() if budget.shrink else {Phase.shrink})
    changes: dict[str, Any] = {
        "deadline": None,
        "print_blob": False,
        "report_multiple_bugs": False,
        "verbosity": Verbosity.quiet,
        "phases": [phase for phase in parent.phases if phase not in phases],
    }
    if budget.max_examples is not None:
        changes["max_examples"] = budget.max_examples
    configured = settings(parent, **changes)(body)
    if budget.seed is not None:
        configured = with_seed(budget.seed)(configured)
    test = _outside_of_tests(lambda: given(random)(configured))
    # All searches share one body: without a key of its own each would have the examples, and with
    # CI's fixed seed the cases, of all others. Hypothesis' pytest plugin sets the same attribute.
    test.hypothesis.inner_test._hypothesis_internal_add_digest = budget.key.encode()
    return test  # type: ignore[no-any-return]


def _outside_of_tests(make: Callable[[], Any]) -> Any:
    """What ``make`` makes, on a thread of its own where this one runs a Hypothesis test.

    Hypothesis refuses to apply ``given`` inside a test, for fear of nested searches; a check in a
    user's ``@given`` test is one on purpose.
    """
    if not currently_in_test_context():
        return make()
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(make()))
    thread.start()
    thread.join()
    return made[0]
