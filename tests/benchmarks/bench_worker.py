"""What a worker costs beside loads in the test's own process, and a dead one's replacement.

pytest tests/benchmarks/bench_worker.py -s
"""

from __future__ import annotations

import os
import statistics
import time

import pytest
import torch

from pytest_ckptload.case import Case
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.finding import Verdict
from pytest_ckptload.recipes import mmap, mmap_meta_assign
from pytest_ckptload.worker import Limits, isolated

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def warm():
    torch.set_num_threads(1)
    torch.empty(1, device="meta").normal_()
    for isolation in ("worker", "off"):
        Checker(Defaults(max_examples=20, isolation=isolation)).check(mmap)


def seconds(isolation, seed):
    """Seconds that a check of the default budget takes."""
    start = time.perf_counter()
    Checker(Defaults(isolation=isolation, seed=seed)).check(mmap)
    return time.perf_counter() - start


def test_a_worker_beside_none(benchmark):
    """The default budget, in turn, so that both see the same machine."""
    ratios = []
    for seed in range(9):
        order = ("worker", "off") if seed % 2 else ("off", "worker")
        took = {isolation: seconds(isolation, seed) for isolation in order}
        ratios.append(took["worker"] / took["off"])
    benchmark.pedantic(lambda: None, rounds=1)
    median = statistics.median(ratios)
    print(f"\nworker / none: {median:.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})")
    assert median <= 1.1


def test_start_and_end(benchmark, tmp_path):
    """From the fork to the first verdict, and to the end."""
    starts, ends = [], []
    for _ in range(30):
        start = time.perf_counter()
        with isolated(lambda case, where: Verdict(), "worker", CPU, Limits()) as examine:
            examine(Case())
            first = time.perf_counter()
        starts.append(first - start)
        ends.append(time.perf_counter() - first)
    benchmark.pedantic(lambda: None, rounds=1)
    print(
        f"\nstart {statistics.median(starts) * 1e3:.1f} ms, end {statistics.median(ends) * 1e3:.1f}"
    )
    assert statistics.median(starts) + statistics.median(ends) <= 0.05


def test_replacing_a_dead_one(benchmark, tmp_path):
    """From the case that kills a worker to the verdict of the next on another case."""

    def examine(case, where):
        if case.seed:
            os.abort()
        return Verdict()

    took = []
    with isolated(examine, "worker", CPU, Limits()) as asked:
        for _ in range(30):
            asked(Case())
            start = time.perf_counter()
            assert asked(Case(seed=1)).died
            asked(Case())
            took.append(time.perf_counter() - start)
    benchmark.pedantic(lambda: None, rounds=1)
    print(f"\nreplaced in {statistics.median(took) * 1e3:.1f} ms (max {max(took) * 1e3:.1f})")
    assert statistics.median(took) <= 0.1


def test_a_crash_is_shrunk(benchmark):
    """A crash that only random cases show, from the first case to the smallest."""

    def crashes(build, path, device):
        names = {type(module).__name__ for module in build().modules()}
        if {"Scalar", "TwoNames"} <= names:
            os.abort()
        return mmap_meta_assign(build, path, device)

    took = []
    for seed in range(5):
        checker = Checker(Defaults(max_examples=500, seed=seed))
        start = time.perf_counter()
        with pytest.raises(AssertionError, match="CKPT801"):
            checker.check(
                crashes,
                features=["scalar", "tied"],
                allow={"CKPT401": "assign unties"},
            )
        took.append(time.perf_counter() - start)
    benchmark.pedantic(lambda: None, rounds=1)
    print(f"\na crash found and shrunk in {statistics.median(took):.2f} s (max {max(took):.2f})")
