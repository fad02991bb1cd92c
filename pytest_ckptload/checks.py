"""``check`` and its like: the object behind the ``ckptload`` fixture and behind the suite.

Apart from the fixtures because it knows nothing of pytest: it takes settings and a name to go by, runs
the search on each device, and raises ``CheckpointMismatch`` with the whole story.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pytest_ckptload import devices as device_names
from pytest_ckptload.case import Case
from pytest_ckptload.checker import Demands, Subject, examine, examine_file
from pytest_ckptload.finding import CheckpointMismatch, Finding
from pytest_ckptload.inputs import (
    check_features,
    check_loader,
    check_names,
    file_subject,
    user_subject,
)
from pytest_ckptload.loader import Build, Loader, Save, loader_name
from pytest_ckptload.report.script import script
from pytest_ckptload.report.text import failure_text, replay_command
from pytest_ckptload.rules import RULES
from pytest_ckptload.search import Budget, Outcome, search
from pytest_ckptload.strategies import cases, covering

if TYPE_CHECKING:
    from torch import nn

__all__ = ["PROMISES", "Checker", "Defaults", "Report"]

PROMISES = ("strict", "robust")

Allow = Callable[[Finding, Case], "str | None"]


@dataclass(frozen=True)
class Defaults:
    """What a check does where its arguments do not say: from the command line, ini and marker."""

    features: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    promises: Collection[str] = ()
    allow: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    max_examples: int | None = None
    seed: int | None = None
    shrink: bool = True
    strict: bool = False
    replay: Case | None = None


@dataclass
class Report:
    """What a check that found nothing amounted to.

    ``examples`` counts the cases over all devices, ``features`` how often each was in one. ``advice``
    holds one finding for each rule that advises; ``allowed`` the reasons of allowances that were used.
    """

    loader: str
    devices: tuple[str, ...] = ()
    examples: int = 0
    features: dict[str, int] = field(default_factory=dict)
    advice: tuple[Finding, ...] = ()
    allowed: dict[str, str] = field(default_factory=dict)

    def add(self, device: str, outcome: Outcome) -> None:
        """Count in what was seen on one device."""
        self.devices += (device,)
        self.examples += outcome.examples
        for feature, count in outcome.features.items():
            self.features[feature] = self.features.get(feature, 0) + count
        known = {finding.code for finding in self.advice}
        self.advice += tuple(f for code, f in outcome.advice.items() if code not in known)
        self.allowed.update(outcome.allowed)


@dataclass
class _Plan:
    """A check with everything settled: what to examine, over which cases, and what is allowed."""

    loader: Loader
    demands: Demands
    subject: Subject | None
    path: Path | None
    name: str
    features: Sequence[str] | None
    without: tuple[str, ...]
    allow: Allow


class Checker:
    """Checks loaders.

    ``node`` is the id of the test it serves, ``options`` what else a command needs to run that test
    again; ``record`` is told of every check that passed.
    """

    def __init__(
        self,
        defaults: Defaults | None = None,
        node: str | None = None,
        options: Sequence[str] = (),
        record: Callable[[Report], None] = lambda report: None,
    ) -> None:
        self.defaults = defaults or Defaults()
        self.node = node
        self.options = tuple(options)
        self.record = record
        self._checks = 0

    def check(
        self,
        loader: Loader,
        *,
        build: Build | None = None,
        checkpoint: str | Path | None = None,
        features: Sequence[str] | None = None,
        without: Sequence[str] = (),
        promises: Collection[str] = (),
        allow: Mapping[str, str] | Allow | None = None,
        semantics: str | None = None,
        dtype: torch.dtype | None = None,
        reference: Loader | None = None,
        save: Save | None = None,
        devices: Sequence[str | torch.device] | None = None,
        max_examples: int | None = None,
    ) -> Report:
        """Assert that ``loader`` gives the module that eager loading gives.

        Args:
            loader: Called as ``loader(build, path, device)``; returns the loaded ``nn.Module``.
            build: Makes the module. Left out, modules are generated.
            checkpoint: This very file instead of generated ones. It is only read. Without ``build``
                the module is made from the file's own names, shapes and dtypes.
            features: Generate these features only; ``without``: all but these.
            promises: Demands beyond the mission: ``"strict"`` (a file with a key too few or too many
                is refused), ``"robust"`` (so is a damaged file that the eager recipe refuses).
            allow: Rule codes that are accepted here, each with a reason.
            semantics: ``"assign"`` or ``"copy"``: whose dtypes and strides the module has, the file's
                or its own. Left out, either, throughout one module.
            dtype: The loader casts floating tensors to this dtype: so does the reference.
            reference: Compare with this loader instead of the eager recipe.
            save: ``save(module, path)`` writes the file, in any format; needs ``build``. The reference
                is the module in memory.
            devices: Devices to load on. Left out, all that are available.
            max_examples: Random cases for each device, after the fixed ones.

        Returns:
            What was tried.

        Raises:
            CheckpointMismatch: The loader does not; it carries ``findings`` and ``case``.
            TypeError, ValueError: An argument is not what it must be.
        """
        __tracebackhide__ = True
        check_loader(loader)
        plan = self._plan(
            loader, build, checkpoint, features, without, promises, allow, semantics, dtype, reference, save
        )
        chosen = device_names.named(devices or self.defaults.devices or ("all",))
        budget = self._budget(max_examples)
        report = Report(loader_name(loader))
        for device in chosen:
            outcome = self._search(plan, device, budget)
            report.add(str(device), outcome)
            if outcome.failure is not None:
                raise self._mismatch(plan, device, outcome)
        self.record(report)
        return report

    def _plan(
        self,
        loader: Loader,
        build: Build | None,
        checkpoint: str | Path | None,
        features: Sequence[str] | None,
        without: Sequence[str],
        promises: Collection[str],
        allow: Mapping[str, str] | Allow | None,
        semantics: str | None,
        dtype: torch.dtype | None,
        reference: Loader | None,
        save: Save | None,
    ) -> _Plan:
        __tracebackhide__ = True
        promises = check_names("promise", promises or self.defaults.promises, PROMISES)
        if semantics is not None:
            check_names("semantics", [semantics], ("assign", "copy"))
        if save is not None and (build is None or checkpoint is not None):
            raise ValueError("save= writes a module that build= makes: give build=, and no checkpoint=")
        if dtype is not None and semantics is not None:
            raise ValueError(f"dtype={dtype} and semantics={semantics!r} contradict each other: give one")
        chosen = features if features is not None else self.defaults.features
        left_out = tuple(without) or self.defaults.without
        check_features(chosen, left_out, generated=build is None and checkpoint is None)
        subject, path, name = None, None, ""
        if build is not None:
            subject, name = user_subject(build), getattr(build, "__qualname__", "build")
        if checkpoint is not None:
            path, subject = file_subject(checkpoint, subject)
            name = path.name
        demands = Demands(frozenset(promises), semantics, dtype, reference, save)
        allow = self.defaults.allow if allow is None else allow
        return _Plan(loader, demands, subject, path, name, chosen, left_out, _allowing(allow))

    def _budget(self, max_examples: int | None) -> Budget:
        self._checks += 1
        if max_examples is not None and max_examples < 0:
            raise ValueError(f"max_examples={max_examples}: expected a whole number, 0 for no random cases")
        return Budget(
            max_examples if max_examples is not None else self.defaults.max_examples,
            self.defaults.seed,
            self.defaults.shrink,
            f"{self.node}#{self._checks}",
        )

    def _search(self, plan: _Plan, device: torch.device, budget: Budget) -> Outcome:
        if plan.path is not None:
            return self._search_file(plan, device)

        def examine_one(case: Case) -> list[Finding]:
            subject = plan.subject if case.module is None else None
            return examine(case, plan.loader, device, plan.demands, subject)

        if self.defaults.replay is not None:
            if self.defaults.replay.module is None and plan.subject is None:
                raise ValueError("this case was made for a given build=: replay it in the test it comes from")
            return search(examine_one, [self.defaults.replay], None, budget, plan.allow, self.defaults.strict)
        structure = None if plan.subject is None else plan.subject.structure
        without = (*plan.without, *(() if plan.demands.save is None else _of_the_file()))
        chosen = {"features": plan.features, "without": without, "structure": structure}
        random = cases(**chosen) if budget.max_examples != 0 else None
        return search(examine_one, covering(**chosen), random, budget, plan.allow, self.defaults.strict)

    def _search_file(self, plan: _Plan, device: torch.device) -> Outcome:
        path, subject = plan.path, plan.subject
        assert path is not None
        assert subject is not None

        def examine_one(case: Case) -> list[Finding]:
            return examine_file(path, plan.loader, device, plan.demands, subject)

        return search(examine_one, [Case()], None, Budget(), plan.allow, self.defaults.strict)

    def _mismatch(self, plan: _Plan, device: torch.device, outcome: Outcome) -> CheckpointMismatch:
        found = outcome.failure
        assert found is not None
        replay = None
        if plan.path is None:
            replay = replay_command(self.node, self.options, found.case)
        text = failure_text(loader_name(plan.loader), str(device), outcome, replay, plan.name)
        error = CheckpointMismatch(text, found.findings, found.case)
        if plan.path is None and plan.demands.save is None:
            error.script = script(
                found.case, found.findings, plan.loader, dtype=plan.demands.dtype
            )
        return error


def _allowing(allow: Mapping[str, str] | Allow) -> Allow:
    if callable(allow):
        return allow
    check_names("rule", allow, RULES)
    reasons = dict(allow)
    return lambda finding, case: reasons.get(finding.code)


def _of_the_file() -> tuple[str, ...]:
    from pytest_ckptload.zoo import FEATURES

    return tuple(name for name, feature in FEATURES.items() if feature.of == "checkpoint")
