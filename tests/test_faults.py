"""Every rule has a fault that it catches, and every fault a sibling that nobody accuses."""

from __future__ import annotations

import functools

import pytest

from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.faults import FAULTS
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.rules import RULES

# No second device is here to be on: this rule has a test of its own below.
WITHOUT_FAULT = {"CKPT205"}


def run(fault, loader, without=(), **defaults):
    promises = () if fault.training else fault.promises
    limits = {"timeout": 5, "memory": 500_000_000}
    # Destroying a file takes two forks an example.
    features = ("tied", "scalar", "buffer-computed") if "detached" in promises else None
    checker = Checker(
        Defaults(features, promises=promises, max_examples=20, seed=0, **limits, **defaults)
    )
    return (checker.check_resume if fault.training else checker.check)(loader, without=without)


@functools.cache
def examples_of_sibling(sibling, promises, training, beyond):
    """Several faults have one sibling: it is tried once for all that ask the same of it."""
    fault = next(
        f
        for f in FAULTS
        if (f.sibling, f.promises, f.training, f.beyond) == (sibling, promises, training, beyond)
    )
    return run(fault, sibling, beyond, strict=True).examples


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter:UserWarning")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.code}-{fault.name}")
def test_a_fault_is_caught_by_its_rule(fault, capsys):
    with pytest.raises(CheckpointMismatch) as caught:
        run(fault, fault.broken, strict=fault.advice)
    error = caught.value
    assert f"{fault.code} {RULES[fault.code].name}" in error.report
    assert error.case is not None


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: f"{fault.code}-{fault.sibling.__name__}-beside-{fault.name}"
)
def test_its_sibling_is_not_accused(fault):
    assert examples_of_sibling(fault.sibling, fault.promises, fault.training, fault.beyond) > 20


def test_every_rule_has_a_fault():
    assert {fault.code for fault in FAULTS} | WITHOUT_FAULT == set(RULES)


def test_advice_alone_does_not_fail():
    fault = next(f for f in FAULTS if f.advice)
    report = run(fault, fault.broken)
    assert [finding.code for finding in report.advice] == [fault.code]


def test_a_tensor_on_another_device_is_found():
    import torch
    from torch import nn

    from pytest_ckptload.asserts import assert_modules_equal

    with torch.device("meta"):
        elsewhere = nn.Linear(1, 1)
    with pytest.raises(CheckpointMismatch, match="CKPT205 device-changed"):
        assert_modules_equal(nn.Linear(1, 1), elsewhere)
