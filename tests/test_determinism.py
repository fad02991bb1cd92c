"""The same seed gives the same verdict and the same case, however the session is run.

`.ci/run` runs this file once more where pytest-randomly is installed.
"""

from __future__ import annotations

import importlib.util
import re

import pytest

SOURCE = """
    import os

    import torch
    from pytest_ckptload.recipes import eager, eager_resume, mmap_meta_assign

    def breaks_on_two(build, path, device):
        names = {type(module).__name__ for module in build().modules()}
        if {"Scalar", "TwoNames"} <= names:
            os.abort()
        return eager(build, path, device)

    def loses_in_large_ones(build, path, device):
        module = eager(build, path, device)
        with torch.no_grad():
            for parameter in module.parameters():
                if len(module._modules) > 2 and parameter.is_floating_point():
                    parameter.zero_()
        return module

    def stale(build, make_optimizer, path, device):
        module, optimizer = eager_resume(build, make_optimizer, path, device)
        if len(list(module.parameters())) > 3:
            optimizer.param_groups[0]["params"].pop()
        return module, optimizer

    def swallows(build, path, device):
        try:
            return eager(build, path, device)
        except Exception:
            return build()

    def test_right(ckptload): ckptload.check(eager, features=["tied", "views"])
    def test_dies(ckptload): ckptload.check(breaks_on_two, features=["scalar", "tied"])
    def test_loses(ckptload): ckptload.check(loses_in_large_ones, features=["frozen"])
    def test_robust(ckptload):
        ckptload.check(swallows, features=["hostile", "extra-key"], promises={"robust", "strict"})

    def test_stale(ckptload): ckptload.check_resume(stale, features=["tied"])
    def test_recipe(ckptload): ckptload.check(mmap_meta_assign, features=["tied"])
"""
WAYS = {
    "in parallel": ("-n2",),
    "step by step": ("--stepwise", "--stepwise-skip"),
    "what failed last, without xdist": ("--lf", "-p", "no:xdist"),
}
WITHOUT_A_WORKER = ("--ckptload-isolation=off", "-k", "not dies")


@pytest.fixture
def verdicts(pytester):
    """What each test found: the findings and the case, by the test's name."""
    pytester.makepyfile(test_it=SOURCE)

    def verdicts(*arguments, start=pytester.runpytest_subprocess):
        result = start(
            "-p",
            "no:benchmark",
            "--ckptload-seed=7",
            "--ckptload-max-examples=40",
            "-rA",
            "--ckptload-isolation=worker",
            *arguments,
        )
        found = {}
        text = result.stdout.str().partition(" short test summary")
        for name, told in re.findall(r"^_+ (test_\w+) _+\n(.*?)(?=^[_=]{5})", text[0], re.M | re.S):
            lines = [line for line in told.splitlines() if line.startswith("E  ")]
            found[name] = [re.sub(r"[\w/.-]+/|\d+\.\d+ s", "", line) for line in lines]
        passed = set(re.findall(r"^PASSED test_it.py::(\w+)", text[2], re.M))
        return passed, {name: lines for name, lines in found.items() if lines}

    return verdicts


def test_the_same_seed_gives_the_same_verdict(verdicts, pytester):
    passed, found = verdicts()
    assert passed == {"test_right"}
    assert set(found) == {f"test_{n}" for n in ("dies", "loses", "robust", "stale", "recipe")}
    assert any("CKPT801" in line for line in found["test_dies"])
    for way, arguments in WAYS.items():
        now_passed, now = verdicts(*arguments, start=pytester.runpytest_inprocess)
        assert now, way
        assert now_passed <= passed, way
        for name, lines in now.items():
            assert lines == found[name], f"{name} {way}"
    del found["test_dies"]
    assert verdicts(*WITHOUT_A_WORKER, start=pytester.runpytest_inprocess) == (passed, found)


@pytest.mark.skipif(
    importlib.util.find_spec("pytest_randomly") is None, reason="pytest-randomly is not installed"
)
def test_pytest_randomly_does_not_change_the_verdict(verdicts):
    settled = verdicts("-p", "no:randomly")
    assert len(settled[1]) == 5
    for seed in (1, 2):
        assert verdicts(f"--randomly-seed={seed}") == settled
