"""``check`` and its like: the object behind the ``ckptload`` fixture and behind the suite.

Apart from the fixtures because it knows nothing of pytest: it takes settings and a name to go by,
runs the search on each device, and raises ``CheckpointMismatch`` with the whole story.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytest_ckptload import devices as device_names
from pytest_ckptload.case import Case
from pytest_ckptload.checker import (
    Demands,
    Subject,
    examine,
    examine_file,
    examine_loaded,
    folder,
)
from pytest_ckptload.finding import CheckpointMismatch, Finding, Verdict
from pytest_ckptload.inputs import (
    check_features,
    check_loader,
    check_names,
    file_subject,
    user_subject,
)
from pytest_ckptload.loader import Build, Loader, MakeOptimizer, Resumer, Save, loader_name
from pytest_ckptload.report.script import script
from pytest_ckptload.report.text import failure_text, findings_text, replay_command
from pytest_ckptload.resuming import adamw, examine_resume
from pytest_ckptload.rules import RULES
from pytest_ckptload.search import Budget, Found, Outcome, search
from pytest_ckptload.strategies import cases, covering
from pytest_ckptload.zoo import FEATURES

if TYPE_CHECKING:
    from pytest_ckptload.written import WrittenCase

# Errors raised here are sentences for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

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

    ``examples`` counts the cases over all devices, ``refused`` those of them that were not judged
    because the reference itself refused them, ``features`` how often each was in one. ``advice``
    holds one finding for each rule that advises; ``allowed`` the reasons of allowances that were
    used.
    """

    loader: str
    devices: tuple[str, ...] = ()
    examples: int = 0
    refused: int = 0
    features: dict[str, int] = field(default_factory=dict)
    advice: tuple[Finding, ...] = ()
    allowed: dict[str, str] = field(default_factory=dict)

    def add(self, device: str, outcome: Outcome) -> None:
        """Count in what was seen on one device."""
        self.devices += (device,)
        self.examples += outcome.examples
        self.refused += len(outcome.refused)
        for feature, count in outcome.features.items():
            self.features[feature] = self.features.get(feature, 0) + count
        known = {finding.code for finding in self.advice}
        self.advice += tuple(f for code, f in outcome.advice.items() if code not in known)
        self.allowed.update(outcome.allowed)


@dataclass
class _Target:
    """A check with everything settled: what to examine, over which cases, and what is allowed.

    ``fixed`` are the cases where nothing is generated; ``quote`` makes the stand-alone script.
    """

    name: str
    examine: Callable[[Case, torch.device, Path], Verdict]
    allow: Allow
    subject: Subject | None = None
    subject_name: str = ""
    features: Sequence[str] | None = None
    without: tuple[str, ...] = ()
    fixed: list[Case] | None = None
    quote: Callable[[Found, torch.device], str] | None = None


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
            features: Generate these features only.
            without: Generate all features but these.
            promises: Demands beyond the mission: ``"strict"`` (a file with a key too few or too
                many is refused), ``"robust"`` (so is a damaged file that the eager recipe refuses).
            allow: Rule codes that are accepted here, each with a reason.
            semantics: ``"assign"`` or ``"copy"``: whose dtypes and strides the module has, the
                file's or its own. Left out, either, throughout one module.
            dtype: The loader casts floating tensors to this dtype: so does the reference.
            reference: Compare with this loader instead of the eager recipe.
            save: ``save(module, path)`` writes the file, in any format; needs ``build``. The
                reference is the module in memory.
            devices: Devices to load on. Left out, all that are available.
            max_examples: Random cases for each device, after the fixed ones.

        Returns:
            What was tried.

        Raises:
            CheckpointMismatch: The loader does not; it carries ``findings`` and ``case``.
            TypeError, ValueError: An argument is not what it must be.
        """
        check_loader(loader)
        promises = check_names("promise", promises or self.defaults.promises, PROMISES)
        _check_consistent(build, checkpoint, save, semantics, dtype)
        chosen, left_out = self._features(features, without, build is None and checkpoint is None)
        subject = None if build is None else user_subject(build)
        demands = Demands(frozenset(promises), semantics, dtype, reference, save)
        target = _Target(
            loader_name(loader),
            lambda case, device, where: examine(case, loader, device, demands, subject, where),
            _allowing(self.defaults.allow if allow is None else allow),
            subject,
            "" if build is None else getattr(build, "__qualname__", "build"),
            chosen,
            left_out if save is None else (*left_out, *_names_of("checkpoint")),
        )
        if checkpoint is not None:
            path, held = file_subject(checkpoint, subject)
            target.examine = lambda case, device, _: examine_file(
                path, loader, device, demands, held
            )
            target.subject, target.subject_name, target.fixed = held, path.name, [Case()]
        elif save is None and reference is None:
            target.quote = lambda found, device: script(
                found.case, found.findings, loader, dtype=dtype, build=build, device=device
            )
        return self._run(target, devices, max_examples)

    def check_resume(
        self,
        resume: Resumer,
        *,
        build: Build | None = None,
        make_optimizer: MakeOptimizer | None = None,
        features: Sequence[str] | None = None,
        without: Sequence[str] = (),
        allow: Mapping[str, str] | Allow | None = None,
        devices: Sequence[str | torch.device] | None = None,
        max_examples: int | None = None,
    ) -> Report:
        """Assert that ``resume`` gives the module and the optimizer that eager resuming gives.

        The file holds ``{"model": …, "optimizer": …}``, written after two steps of training.

        Args:
            resume: Called as ``resume(build, make_optimizer, path, device)``; returns the module
                and its optimizer.
            build: Makes the module. Left out, modules are generated.
            make_optimizer: Makes an optimizer for a module. Left out, AdamW over all parameters.
            features: Generate these features of modules only.
            without: Generate all features but these.
            allow: Rule codes that are accepted here, each with a reason.
            devices: Devices to resume on. Left out, all that are available.
            max_examples: Random cases for each device, after the fixed ones.

        Returns:
            What was tried.

        Raises:
            CheckpointMismatch: The resumer does not; it carries ``findings`` and ``case``.
            TypeError, ValueError: An argument is not what it must be.
        """
        check_loader(resume, "build, make_optimizer, path, device")
        make = make_optimizer or adamw
        chosen, left_out = self._features(features, without, build is None)
        subject = None if build is None else user_subject(build)
        target = _Target(
            loader_name(resume),
            lambda case, device, where: examine_resume(case, resume, make, device, subject, where),
            _allowing(self.defaults.allow if allow is None else allow),
            subject,
            "" if build is None else getattr(build, "__qualname__", "build"),
            chosen,
            (*left_out, *_names_of("checkpoint")),
        )
        return self._run(target, devices, max_examples)

    def assert_matches_eager(self, module: nn.Module, case: WrittenCase) -> None:
        """Assert that ``module`` is what eager loading of ``case`` gives.

        Args:
            module: The module that a loader made from ``case.build`` and ``case.path``, on any
                device.
            case: A written case, as the fixture ``ckptload_case`` hands out.

        Raises:
            CheckpointMismatch: It is not; the error carries ``findings`` and ``case``.
            TypeError: ``module`` is no ``nn.Module``.
        """
        if not isinstance(module, nn.Module):
            raise TypeError(f"expected the loaded nn.Module, not a {type(module).__name__}")
        findings = examine_loaded(module, case)
        failing = [f for f in findings if self.defaults.strict or not f.advice]
        if failing:
            title = "The module is not the one that eager loading gives."
            raise CheckpointMismatch(f"{title}\n\n{findings_text(failing)}", failing, case.case)

    def _features(
        self, features: Sequence[str] | None, without: Sequence[str], generated: bool
    ) -> tuple[Sequence[str] | None, tuple[str, ...]]:
        features, without = _names(features), _names(without) or ()
        chosen = features if features is not None else self.defaults.features
        left_out = without or self.defaults.without
        # Those of the command line are for every test: they need not fit each.
        check_features(features, without, generated=generated)
        return chosen, left_out

    def _run(
        self,
        target: _Target,
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
            if outcome.failure is not None:
                raise self._mismatch(target, device, outcome)
            if outcome.refused and not outcome.compared:
                whose = f" for {target.subject_name}" if target.subject_name else ""
                raise ValueError(
                    f"nothing was judged: the reference itself loads none of the files{whose}; "
                    f"the first error was {_first_line(outcome.refused[0])}; give a loader that "
                    "can "
                    "with reference="
                )
        self.record(report)
        return report

    def _search(self, target: _Target, device: torch.device, max_examples: int | None) -> Outcome:
        budget = Budget(
            max_examples if max_examples is not None else self.defaults.max_examples,
            self.defaults.seed,
            self.defaults.shrink,
            f"{self.node}#{self._checks}@{device}",
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
            fixed = list(covering(**chosen))
            random = cases(**chosen) if budget.max_examples != 0 else None
        with folder() as where:
            return search(
                lambda case: target.examine(case, device, where),
                fixed,
                random,
                budget,
                target.allow,
                self.defaults.strict,
            )

    def _mismatch(
        self, target: _Target, device: torch.device, outcome: Outcome
    ) -> CheckpointMismatch:
        found = outcome.failure
        assert found is not None
        replay = None
        if target.fixed is None:
            replay = replay_command(self.node, self.options, found.case)
        text = failure_text(target.name, str(device), outcome, replay, target.subject_name)
        error = CheckpointMismatch(text, found.findings, found.case)
        if target.quote is not None:
            try:
                error.script = target.quote(found, device)
            except Exception as reason:  # quoting sources must not hide what was found
                error.script = f"# There is no script of this case: {reason!r}"
        return error


def _check_consistent(
    build: Build | None,
    checkpoint: str | Path | None,
    save: Save | None,
    semantics: str | None,
    dtype: torch.dtype | None,
) -> None:
    """Raises ``ValueError`` for arguments that contradict each other."""
    if semantics is not None:
        check_names("semantics", [semantics], ("assign", "copy"))
    if save is not None and (build is None or checkpoint is not None):
        raise ValueError("save= writes a module that build= makes: give build=, and no checkpoint=")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype={dtype!r}: expected a torch.dtype, such as torch.bfloat16")
    if dtype is not None and semantics is not None:
        raise ValueError(
            f"dtype={dtype} and semantics={semantics!r} contradict each other: give one"
        )


def _replayable(case: Case, subject: Subject | None) -> Case:
    if case.module is None and subject is None:
        raise ValueError(
            "this case was made for a given build=: replay it in the test it comes from"
        )
    return case


def _allowing(allow: Mapping[str, str] | Allow) -> Allow:
    if callable(allow):
        return allow
    check_names("rule", allow, RULES)
    reasons = dict(allow)
    return lambda finding, case: reasons.get(finding.code)


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0]
    return line if len(line) < 200 else line[:200] + "…"


def _names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """One name is as good as a list of one."""
    if names is None:
        return None
    return (names,) if isinstance(names, str) else tuple(names)


def _names_of(half: str) -> tuple[str, ...]:
    return tuple(name for name, feature in FEATURES.items() if feature.of == half)
