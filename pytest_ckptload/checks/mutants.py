"""Mutants: somebody's own loader, broken on purpose, held to the check that it has passed.

Apart from the checks, which say whether a loader is right: here it is the check that is tested. A
mutant that passes is a fault that would go unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytest_ckptload.checks.checker import Checker
from pytest_ckptload.checks.runs import Report
from pytest_ckptload.faults import DEADLY, FAULTS, Fault
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.loader import loader_name
from pytest_ckptload.machine import devices
from pytest_ckptload.scores import KILLED, SURVIVED, UNFIT, Mutant, Trial
from pytest_ckptload.worker import in_worker
from pytest_ckptload.zoo import FEATURES

# Errors raised here are for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

__all__ = ["tried_with_mutants"]


def tried_with_mutants(
    checker: Checker,
    method: str,
    load: Callable[..., Any],
    arguments: Mapping[str, Any],
    record: Callable[[Trial], None],
) -> Report:
    """Run the check ``method`` on ``load``, then on each mutant of it; ``record`` is told of the
    trial.

    Raises what the check raises, and with ``strict`` an ``AssertionError`` where mutants survive.
    """
    name = loader_name(load)
    try:
        report: Report = getattr(checker, method)(load, **arguments)
    except CheckpointMismatch:
        record(Trial(name, failed="it does not pass the check itself"))
        raise
    if arguments.get("checkpoint") is not None:
        record(Trial(name, failed="a given file is only read, and mutants may write to theirs"))
        return report
    trial = Trial(name, tuple(_mutants(checker, method, load, arguments)))
    record(trial)
    if checker.defaults.strict and (survivors := trial.those(SURVIVED)):
        listed = ", ".join(f"{m.fault} ({m.code})" for m in survivors)
        passing = "1 mutant" if len(survivors) == 1 else f"{len(survivors)} mutants"
        passes = "passes" if len(survivors) == 1 else "pass"
        raise AssertionError(f"{passing} of {name} {passes} this check: {listed}")
    return report


def _mutants(
    checker: Checker, method: str, load: Callable[..., Any], arguments: Mapping[str, Any]
) -> Iterator[Mutant]:
    kind = "loader" if method == "check" else "resumer"
    for fault in FAULTS.values():
        if fault.mutate is None or kind not in fault.breaks:
            continue
        outcome, reason = UNFIT, _unfit(fault, checker, arguments)
        code = fault.code
        if reason is None:
            hasty = checker.hasty(fault.features, **fault.limits)
            try:
                report = getattr(hasty, method)(fault.mutate(load), **arguments)
            except CheckpointMismatch as error:
                outcome, codes = KILLED, [finding.code for finding in error.findings]
                code = code if code in codes else codes[0]
            else:
                outcome, reason = _survival(fault, report, arguments)
        yield Mutant(fault.name, code, outcome, reason or "")


def _unfit(fault: Fault, checker: Checker, arguments: Mapping[str, Any]) -> str | None:
    """Why this check has nothing to do with the fault."""
    promises = arguments.get("promises") or checker.defaults.promises
    if lacking := [promise for promise in fault.promises if promise not in promises]:
        return f"it breaks the promise {lacking[0]!r}, which is not made"
    if fault.advice and not checker.defaults.strict:
        return f"{fault.code} only advises: with --ckptload-strict it fails"
    names: Sequence[Any] = arguments.get("devices") or checker.defaults.devices or ("all",)
    where = devices.named(names)
    if fault.elsewhere and all(device.type == "cpu" for device in where):
        return "it takes a device other than the CPU"
    if fault.code in DEADLY:
        mode = checker.defaults.isolation
        if not all(in_worker(mode, device) for device in where):
            return "it brings down the process, and loads do not run in a worker"
    return None


def _survival(fault: Fault, report: Report, arguments: Mapping[str, Any]) -> tuple[str, str]:
    """What to say of a mutant without a finding: that it survived, or that there is nothing in it
    to break, and why.
    """
    for allowance, reason in report.allowed.items():
        if allowance.split()[0] == fault.code:  # a pattern of names may follow
            return SURVIVED, f"{allowance} is allowed here: {reason}"
    wanted = " or ".join(fault.features)
    if fault.features and not any(report.features.get(name) for name in fault.features):
        if arguments.get("build") is None:
            return SURVIVED, f"no case has the feature {wanted}: have it generated"
        if all(name not in FEATURES or FEATURES[name].of == "module" for name in fault.features):
            return UNFIT, f"nothing in the given module shows it; it takes {wanted}"
        return SURVIVED, f"no checkpoint has the feature {wanted}: have it generated"
    return SURVIVED, "nothing that was tried shows it"
