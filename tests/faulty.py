"""Checks of faults and of their siblings, for the tests and for the benchmark."""

from __future__ import annotations

from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.finding import CheckpointMismatch


def check_broken(fault, allow=None, **defaults):
    """Check the broken one, for findings of its rule alone where nothing else is allowed."""
    defaults = {**fault.limits, **defaults}
    return _check(fault, fault.broken, fault.given, allow or _all_but(fault.code), **defaults)


def check_sibling(fault, **defaults):
    # What is right may take its time, on a machine that has others to serve.
    given = {**fault.given, **fault.right}
    allow = _advice_of_another(fault.code)
    return _check(fault, fault.sibling, given, allow, **{"timeout": 60, **defaults})


def found(fault, **defaults):
    """The error with which the fault is caught by its rule; ``None`` where it is not."""
    try:
        check_broken(fault, **defaults)
    except CheckpointMismatch as error:
        return error
    return None


def _advice_of_another(code):
    return lambda finding, case: (
        "another rule's advice" if finding.advice and finding.code != code else None
    )


def _all_but(code):
    return lambda finding, case: None if finding.code == code else "another rule's"


def _check(fault, loader, given, allow, **defaults):
    settings = {"promises": () if fault.training else fault.promises, "max_examples": 20, "seed": 0}
    settings |= {"strict": fault.advice, "timeout": 5, "memory": 500_000_000}
    checker = Checker(Defaults(**{**settings, **defaults}))
    check = checker.check_resume if fault.training else checker.check
    return check(loader, allow=allow, **given)
