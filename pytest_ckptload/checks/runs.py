"""One check with everything settled, run: on each device, over which cases, to what end.

Apart from ``checker``, which settles what a call asks for: here nothing is asked any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hypothesis.strategies import SearchStrategy

from pytest_ckptload.allowances import Allowance, Allowances
from pytest_ckptload.case import Case
from pytest_ckptload.checks.ingredients import blame
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.finding import CheckpointMismatch, Finding, Verdict
from pytest_ckptload.machine import devices as device_names
from pytest_ckptload.report.text import failure_text, replay_command
from pytest_ckptload.search import Budget, Found, Outcome, search
from pytest_ckptload.strategies import covering, random_cases
from pytest_ckptload.tried import Tried
from pytest_ckptload.worker import Limits, isolated

# Errors raised here are sentences for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

__all__ = ["Defaults", "Examine", "Report", "Runner", "Target"]

Examine = Callable[[Case, torch.device, Path], Verdict]
"""The verdict on a case on a device; the path is a folder to write to."""


@dataclass(frozen=True)
class Defaults:
    """What a check does where its arguments do not say: from the command line, ini and marker.

    With ``hasty`` it ends at the first finding, and cases with the features in it come first.
    """

    features: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    promises: Collection[str] = ()
    allow: tuple[Allowance, ...] = ()
    devices: tuple[str, ...] = ()
    max_examples: int | None = None
    seed: int | None = None
    shrink: bool = True
    strict: bool = False
    replay: Case | None = None
    isolation: str = "auto"
    timeout: float | None = None
    memory: int | None = None
    covering: bool = True
    hasty: tuple[str, ...] | None = None


@dataclass
class Report:
    """What a check that found nothing amounted to.

    ``examples`` counts the cases over all devices, ``refused`` those of them that were not judged
    because the reference itself refused them; ``tried`` counts what was in them. ``advice`` holds
    one finding for each rule that advises; ``allowed`` the reasons of allowances that were used, by
    what they allow, ``unused`` those of the check's own ``allow=`` that nothing matched; ``notes``
    say what was verified of a given file.
    """

    loader: str
    devices: tuple[str, ...] = ()
    examples: int = 0
    refused: int = 0
    tried: Tried = field(default_factory=Tried)
    advice: tuple[Finding, ...] = ()
    allowed: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def features(self) -> dict[str, int]:
        """In how many cases each feature was."""
        return dict(self.tried.features)

    def add(self, device: str, outcome: Outcome) -> None:
        """Count in what was seen on one device."""
        self.devices += (device,)
        self.examples += outcome.examples
        self.refused += len(outcome.refused)
        self.tried.merge(outcome.tried)
        known = {finding.code for finding in self.advice}
        self.advice += tuple(f for code, f in outcome.advice.items() if code not in known)
        self.notes = tuple(dict.fromkeys((*self.notes, *outcome.notes)))


@dataclass
class Target:
    """A check with everything settled: what to examine, over which cases, and what is allowed.

    ``fixed`` are the cases where nothing is generated; ``covering`` and ``random`` generate them
    elsewhere. ``quote`` makes the stand-alone script. ``ingredients`` examine with a part of the
    loader each, where it is made of parts that are known. ``reference`` says what gives the module
    to compare with.
    """

    name: str
    examine: Examine
    allow: Allowances
    subject: Subject | None = None
    subject_name: str = ""
    features: Sequence[str] | None = None
    without: tuple[str, ...] = ()
    fixed: list[Case] | None = None
    quote: Callable[[Found, torch.device], str] | None = None
    ingredients: Mapping[str, Examine] = field(default_factory=dict)
    covering: Callable[..., Iterable[Case]] = covering
    random: Callable[..., SearchStrategy[Case]] = random_cases
    reference: str = "eager loading"


class Runner:
    """Runs the checks of one test, which it counts.

    ``node`` is the id of the test, ``options`` what else a command needs to run that test again;
    ``record`` is told of every check that passed. ``tried`` counts what was in the cases of all,
    ``allowances`` has each that a check was given, and whether any used it.
    """

    def __init__(
        self,
        defaults: Defaults,
        node: str | None,
        options: Sequence[str],
        record: Callable[[Report], None],
    ) -> None:
        self.defaults = defaults
        self.node = node
        self.options = tuple(options)
        self.record = record
        self.tried = Tried()
        self.allowances: dict[Allowance, bool] = {}
        self._checks = 0

    def run(
        self,
        target: Target,
        devices: Sequence[str | torch.device] | None,
        max_examples: int | None,
    ) -> Report:
        """Search on each device; the first that fails ends it."""
        self._checks += 1
        if max_examples is not None and max_examples < 0:
            raise ValueError(
                f"max_examples={max_examples}: expected a whole number, 0 for none at random"
            )
        report = Report(target.name)
        for device in device_names.named(devices or self.defaults.devices or ("all",)):
            outcome = self._search(target, device, max_examples)
            report.add(str(device), outcome)
            self.tried.merge(outcome.tried)
            self.account(target.allow, complete=False)
            if outcome.failure is not None:
                raise self._mismatch(target, device, outcome)
            if not outcome.judged:
                raise ValueError(f"nothing was judged{_why_nothing(target, outcome)}")
        # One case alone is no occasion for all of them.
        self.account(target.allow, complete=self.defaults.replay is None)
        report.allowed = target.allow.reasons
        report.unused = {a.key: a.reason for a in target.allow.unused if not a.where}
        self.record(report)
        return report

    def account(self, allow: Allowances, *, complete: bool) -> None:
        """Keep which allowances were used; and where a check was ``complete``, which were not."""
        self.allowances.update(dict.fromkeys(allow.used, True))
        if complete:
            for allowance in allow.unused:
                self.allowances.setdefault(allowance, False)

    def _search(self, target: Target, device: torch.device, max_examples: int | None) -> Outcome:
        budget = Budget(
            max_examples if max_examples is not None else self.defaults.max_examples,
            self.defaults.seed,
            self.defaults.shrink,
            f"{self.node}#{self._checks}@{device}",
            self.defaults.hasty is not None,
        )
        fixed, random = target.fixed, None
        if fixed is None and self.defaults.replay is not None:
            fixed = [_replayable(self.defaults.replay, target.subject)]
        if fixed is None:
            structure = None if target.subject is None else target.subject.structure
            chosen: dict[str, Any] = {
                "features": target.features,
                "without": target.without,
                "structure": structure,
            }
            fixed = list(target.covering(**chosen)) if self.defaults.covering else []
            if wanted := self.defaults.hasty:
                fixed.sort(key=lambda case: not set(wanted).intersection(case.features))
            random = target.random(**chosen) if budget.max_examples != 0 else None
        strict = self.defaults.strict
        with self._isolated(target, target.examine, device) as examine:
            return search(examine, fixed, random, budget, target.allow, strict)

    def _isolated(
        self, target: Target, examine: Examine, device: torch.device
    ) -> AbstractContextManager[Callable[[Case], Verdict]]:
        defaults = self.defaults
        roomy = target.subject is not None or target.fixed is not None
        return isolated(
            lambda case, where: examine(case, device, where),
            defaults.isolation,
            device,
            Limits(defaults.timeout, defaults.memory, roomy=roomy),
        )

    def _mismatch(
        self, target: Target, device: torch.device, outcome: Outcome
    ) -> CheckpointMismatch:
        found = outcome.failure
        assert found is not None
        replay = None
        if target.fixed is None:
            replay = replay_command(self.node, self.options, found.case)
        culprit = "" if outcome.flaky else self._blame(target, found, device)
        text = failure_text(
            target.name,
            str(device),
            outcome,
            replay,
            target.subject_name,
            culprit,
            target.reference,
        )
        error = CheckpointMismatch(text, found.findings, found.case)
        if target.quote is not None:
            try:
                error.script = target.quote(found, device)
            except Exception as reason:  # quoting sources must not hide what was found
                error.script = f"# There is no script of this case: {reason!r}"
        return error

    def _blame(self, target: Target, found: Found, device: torch.device) -> str:
        """What each ingredient alone makes of the case that was found."""
        verdicts = {}
        for name, examine in target.ingredients.items():
            with self._isolated(target, examine, device) as alone:
                verdicts[name] = alone(found.case)
        return blame(found.findings[0], verdicts) if verdicts else ""


def _replayable(case: Case, subject: Subject | None) -> Case:
    if case.module is None and subject is None:
        raise ValueError(
            "this case was made for a given build=: replay it in the test it comes from"
        )
    return case


def _why_nothing(target: Target, outcome: Outcome) -> str:
    whose = f" for {target.subject_name}" if target.subject_name else ""
    if outcome.refused:
        return (
            f": the reference itself loads none of the files{whose}; the first error was "
            f"{_one_line(outcome.refused[0])}; give a loader that can with reference="
        )
    if not outcome.examples:
        return f": there is no case{whose} that has the features asked for"
    return (
        f"{whose}: none of the {outcome.examples} cases has anything to compare (damaged files are "
        "judged with promises={'robust'}, resuming takes a parameter that can be trained)"
    )


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) < 200 else line[:200] + "…"
