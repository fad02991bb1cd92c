"""Every rule has a fault that it alone catches, and every fault a sibling that nobody accuses."""

from __future__ import annotations

import functools
import re

import pytest
from faulty import check_broken, check_sibling, found

from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.faults import FAULTS, SOURCES
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.rules import RULES

# Those that take a device other than the CPU are for `tests/annex/inside.py`.
HERE = [fault for fault in FAULTS.values() if not fault.elsewhere]
ELSEWHERE = {fault.code for fault in FAULTS.values()} - {fault.code for fault in HERE}

each_fault = pytest.mark.parametrize("fault", HERE, ids=lambda fault: f"{fault.code}-{fault.name}")
copies_nothing = pytest.mark.filterwarnings("ignore:for .*copying from a non-meta:UserWarning")


def quick(fault):
    """What shows the fault, in as few cases as can be."""
    features = () if "build" in fault.given else fault.features
    return {"features": features, "max_examples": 0}


@copies_nothing
@each_fault
def test_a_fault_is_caught_by_its_rule(fault):
    error = found(fault, hasty=(), shrink=False, **quick(fault))
    assert error is not None
    assert f"{fault.code} {RULES[fault.code].name}" in error.report
    assert error.case is not None


@functools.cache
def examples_of_sibling(sibling, features, *name):
    """Several faults have one sibling: it is tried once for all that ask the same of it."""
    fault = next(
        f for f in HERE if (f.sibling, f.features, *_asked(f)) == (sibling, features, *name)
    )
    return check_sibling(fault, **{**quick(fault), "max_examples": 3}).examples


def _asked(fault):
    own = fault.name if fault.given or fault.right else ""
    return own, fault.promises, fault.advice, fault.training


@each_fault
def test_its_sibling_is_not_accused(fault):
    assert examples_of_sibling(fault.sibling, fault.features, *_asked(fault)) > 1


def test_every_rule_has_a_fault():
    assert {fault.code for fault in FAULTS.values()} == set(RULES)


def test_there_are_many_faults_from_many_bugs_each_of_which_is_known():
    cited = {source for fault in FAULTS.values() for source in fault.references}
    assert len(FAULTS) >= 60
    assert len(cited) >= 40
    assert cited == set(SOURCES)
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", source) for source in SOURCES)


def test_each_fault_says_what_it_does_in_a_sentence():
    for fault in FAULTS.values():
        assert re.match(r"[A-Z`].*[.]$", fault.sentence), fault.name


@copies_nothing
@pytest.mark.parametrize("code", sorted(set(RULES) - ELSEWHERE))
def test_with_its_rule_switched_off_a_fault_gets_through(code):
    for fault in (f for f in HERE if f.code == code):
        try:
            report = check_broken(fault, {code: "switched off"}, hasty=(), **quick(fault))
        except CheckpointMismatch:
            continue  # another rule sees this one as well
        assert code in report.allowed
        return
    pytest.fail(f"every fault of {code} is found by another rule, too: what is {code} for?")


def test_advice_alone_does_not_fail():
    fault = FAULTS["returns_eval"]
    report = Checker(Defaults(features=("scalar",), max_examples=2)).check(fault.broken)
    assert [finding.code for finding in report.advice] == [fault.code]


def test_a_tensor_on_another_device_is_found():
    import torch
    from torch import nn

    from pytest_ckptload.asserts import assert_modules_equal

    with torch.device("meta"):
        elsewhere = nn.Linear(1, 1)
    with pytest.raises(CheckpointMismatch, match="CKPT205 device-changed"):
        assert_modules_equal(nn.Linear(1, 1), elsewhere)
