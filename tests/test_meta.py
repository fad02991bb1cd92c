"""The meta-test: the reference itself is never accused, and a seed says all that is drawn."""

from __future__ import annotations

import pytest

from pytest_ckptload.checks import PROMISES, Checker, Defaults
from pytest_ckptload.finding import Verdict
from pytest_ckptload.recipes import eager
from pytest_ckptload.search import Budget, search
from pytest_ckptload.strategies import random_cases


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_eager_keeps_every_promise_without_a_finding_or_advice(seed):
    """On 200 seeds in tests/benchmarks/bench_check.py."""
    promises = [promise for promise in PROMISES if promise != "detached"]
    report = Checker(Defaults(seed=seed, strict=True, promises=promises)).check(eager)
    assert report.advice == ()
    assert report.refused == 0
    assert report.examples > 400


def test_eager_survives_the_end_of_its_file():
    """A few features are enough here: destroying a file takes two forks an example."""
    features = ["tied", "views", "buffer-computed", "sparse-buffer", "conj-neg", "legacy"]
    checker = Checker(Defaults(seed=0, strict=True, promises=PROMISES, max_examples=20))
    assert checker.check(eager, features=features).examples > 30


def drawn(seed):
    seen = []
    budget = Budget(max_examples=60, seed=seed)
    search(lambda case: seen.append(case) or Verdict(judged=True), [], random_cases(), budget)
    return seen


def test_the_same_seed_gives_the_same_cases():
    first = drawn(1)
    assert first == drawn(1)
    assert first != drawn(2)
    assert len(first) >= 60
