"""What a check of a resumer costs, and the meta-test of resumers on many seeds.

    pytest tests/benchmarks/bench_resume.py -p no:randomly --benchmark-columns=median,min,max

``own`` is the harness's own time per example: the whole of it less the save, both ways of resuming
and the steps, each timed where it happens.
"""

from __future__ import annotations

import statistics
import time

import pytest
import torch

from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.examine import resuming
from pytest_ckptload.examine.trials import continuing, saving
from pytest_ckptload.recipes import eager_resume


@pytest.fixture(scope="module", autouse=True)
def warm():
    torch.set_num_threads(1)
    torch.empty(1, device="meta").normal_()
    Checker(Defaults(max_examples=20)).check_resume(eager_resume)


def test_own_time_per_example(benchmark, monkeypatch):
    """Median over examples of draw + build + fill + observe + judge, whatever the optimizer."""
    elsewhere = 0.0

    def timed(function):
        def run(*args, **kwargs):
            nonlocal elsewhere
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                elsewhere += time.process_time() - start

        return run

    for module, name in (
        (resuming, "write"),
        (resuming, "eager_resume"),
        (saving, "take_step"),
        (continuing, "take_step"),
    ):
        monkeypatch.setattr(module, name, timed(getattr(module, name)))
    own, last = [], time.process_time()
    examine = resuming.examine_resume

    def examined(*args):
        nonlocal elsewhere, last
        verdict = examine(*args)
        own.append(time.process_time() - last - elsewhere)
        elsewhere, last = 0.0, time.process_time()
        return verdict

    monkeypatch.setattr("pytest_ckptload.checks.checker.examine_resume", examined)
    checker = Checker(Defaults(seed=1, max_examples=300, isolation="off"))
    resume = timed(eager_resume)
    benchmark.pedantic(lambda: checker.check_resume(lambda *a: resume(*a)), rounds=1)
    benchmark.extra_info["own median ms"] = statistics.median(own) * 1e3
    print(f"\n{len(own)} examples: own {statistics.median(own) * 1e3:.2f} ms (median)")
    assert statistics.median(own) < 8e-3


def test_the_meta_test_on_50_seeds(benchmark):
    """`check_resume(eager_resume)`: no finding and no advice, whatever is drawn, but what torch is
    known to do.
    """
    known = {"CKPT510": "torch casts state", "CKPT511": "torch goes by the order of parameters"}

    def all_seeds():
        for seed in range(50):
            checker = Checker(Defaults(seed=seed, max_examples=30, strict=True))
            assert checker.check_resume(eager_resume, allow=known).advice == ()

    benchmark.pedantic(all_seeds, rounds=1)
