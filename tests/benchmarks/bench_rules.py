"""What share of a check its rules take: looking, judging, and what a loaded module is put through.

    python tests/benchmarks/bench_rules.py

Timed inside one process over the covering set and as many random cases, in the order in which a
check takes them. What is no rule's is drawing, building, writing and the two loads.
"""

from __future__ import annotations

import statistics
import time
import warnings

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from pytest_ckptload.examine import examination
from pytest_ckptload.examine.pipeline import examine
from pytest_ckptload.examine.reference import Demands
from pytest_ckptload.recipes import eager
from pytest_ckptload.strategies import covering, random_cases

CPU = torch.device("cpu")
RULES = ("judge", "observe", "reference_of", "behave", "train", "Surroundings")
LIFETIME = ("after_deleting", "after_changing", "loaded_again", "stale_names", "other_contents")


class Clock:
    """Adds up the time in some functions, each but for those that run inside another."""

    def __init__(self):
        self.spent = 0.0
        self.inside = False

    def timed(self, function):
        def timed(*args, **kwargs):
            if self.inside:
                return function(*args, **kwargs)
            self.inside, start = True, time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent += time.perf_counter() - start
                self.inside = False

        return timed


def watched(names):
    clock = Clock()
    for name in names:
        setattr(examination, name, clock.timed(getattr(examination, name)))
    return clock


def run(number):
    """Seconds of the whole, in rules, and in those about the file's lifetime."""
    total = 0.0

    @seed(number)
    @settings(
        max_examples=200,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(random_cases())
    def at_random(case):
        examine(case, eager, CPU, Demands())

    rules.spent = lifetime.spent = 0.0
    start = time.perf_counter()
    for case in covering():
        examine(case, eager, CPU, Demands())
    at_random()
    total = time.perf_counter() - start
    return total, rules.spent, lifetime.spent


def main():
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    run(0)
    without, with_them = [], []
    for number in range(1, 6):
        total, judging, living = run(number)
        without.append(judging / (total - living))
        with_them.append((judging + living) / total)
        print(f"{total:.2f} s, {judging:.2f} s in rules, {living:.2f} s in those of lifetime")
    print(f"rules {statistics.median(without):.1%} without those of lifetime (bound 25 %)")
    print(f"rules {statistics.median(with_them):.1%} with them (bound 60 %)")


rules, lifetime = watched(RULES), watched(LIFETIME)

if __name__ == "__main__":
    main()
