"""The suite as pytest sees it: a collector that hangs on the session, and its items.

Apart from the plan because this half is pytest's: node ids, selection, reports.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pytest
import torch

from pytest_ckptload.checks import PROMISES
from pytest_ckptload.checks.inputs import (
    check_codes,
    check_loader,
    check_names,
    given_case,
    imported,
)
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.fixtures import checker_for, with_mutants
from pytest_ckptload.loader import Loader, MakeOptimizer, loader_name
from pytest_ckptload.machine import devices
from pytest_ckptload.options import SETTINGS, Settings
from pytest_ckptload.recipes import RECIPES
from pytest_ckptload.session.extending import added_rules
from pytest_ckptload.suite.plan import (
    OPTIMIZER,
    Subject,
    SuiteTest,
    groups,
    mutant_groups,
    resume_groups,
    subjects,
)
from pytest_ckptload.worker import in_worker, process
from pytest_ckptload.zoo import FEATURES

__all__ = ["SuitePlugin"]

ROOT = "ckptload"

_OPTIMIZERS = "pytest_ckptload_optimizers"


class SuitePlugin:
    """Registered where the suite is wanted. ``selected`` are node ids given as arguments."""

    def __init__(self, config: pytest.Config, selected: tuple[str, ...]) -> None:
        self.rules = added_rules(config)
        self.settings = config.stash[SETTINGS]
        self.selected = selected
        self.tests = list(_tests(config, self.settings))
        for node in selected:
            if not any(_within(_nodeid(test), node) for test in self.tests):
                raise pytest.UsageError(
                    f"there is no test {node}; --ckptload --collect-only -q lists them all"
                )

    def describe(self) -> str:
        """What joined, for the header."""
        loaders = {test.subject.name for test in self.tests}
        where = {test.device for test in self.tests}
        rules = f"{_count(self.rules, 'rule')} added, " if self.rules else ""
        own = {test.group.name for test in self.tests if test.group.name.startswith(OPTIMIZER)}
        optimizers = f"{_count(len(own), 'optimizer')} added, " if own else ""
        return (
            f"{_count(len(loaders), 'loader')}, {_count(len(self.settings.models), 'model')}, "
            f"{optimizers}{rules}{_count(len(where), 'device')} ({', '.join(sorted(where))}), "
            f"{self._isolation(where)}"
        )

    def _isolation(self, where: set[str]) -> str:
        mode = self.settings.isolation
        apart = sorted(name for name in where if in_worker(mode, torch.device(name)))
        if not apart:
            return "isolation off"
        return "isolation worker" + (f" ({', '.join(apart)})" if len(apart) < len(where) else "")

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            suite = _Suite.from_parent(collector, name=ROOT, nodeid=ROOT)
            suite.plugin = self
            report.result = [*report.result, suite]
        return report

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        # xdist's workers are given the arguments that are left, and these are not among them.
        node.workerinput["ckptload_selected"] = list(self.selected)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _tests(config: pytest.Config, settings: Settings) -> Iterator[SuiteTest]:
    """Every test of the suite. Raises ``pytest.UsageError`` for a name that names nothing."""
    try:
        for names in (settings.features or (), settings.without):
            check_names("feature", names, FEATURES)
        check_names("promise", settings.promises, PROMISES)
        check_codes(allowance.code for allowance in settings.allow)
        where = [str(device) for device in devices.named(settings.devices or ("all",))]
        models = {
            name.partition(":")[2]: imported("--ckptload-model", name) for name in settings.models
        }
        loaders, recipes = _loaders(config, settings)
        optimizers = _optimizers(config) if recipes else {}
        if settings.replay is not None:
            given_case(settings.replay, config.invocation_params.dir)
        chosen = subjects(
            loaders, recipes=recipes, torch_version=importlib.metadata.version("torch")
        )
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(str(error)) from None
    given = bool(models or settings.checkpoint or settings.replay)
    for subject in chosen:
        if subject.training and (given or settings.features is not None):
            continue
        fitting = (
            resume_groups(optimizers)
            if subject.training
            else groups(
                models=models,
                checkpoint=settings.checkpoint,
                replay=settings.replay is not None,
                features=settings.features,
                without=(*settings.without, *_unjudged(subject, settings)),
            )
        )
        mutated = settings.mutants and subject.name in loaders
        for group in (*fitting, *(mutant_groups(models) if mutated else ())):
            for device in where:
                yield SuiteTest(subject, group, device)


def _unjudged(subject: Subject, settings: Settings) -> Iterator[str]:
    """The features that are judged by a promise which the loader does not make."""
    promised = subject.demands.get("promises", settings.promises)
    if settings.features is None:
        yield from (n for n, f in FEATURES.items() if f.promise and f.promise not in promised)


def _loaders(config: pytest.Config, settings: Settings) -> tuple[dict[str, Loader], bool]:
    """The user's loaders by name, and whether the recipes take part."""
    loaders: dict[str, Loader] = {}
    recipes = settings.suite or not settings.loaders
    for name in settings.loaders:
        if ":" in name:
            loader = imported("--ckptload-loader", name)
            label = loader_name(loader)
        else:
            check_names("recipe", [name], RECIPES)
            loader, label = RECIPES[name], name
        check_loader(loader)
        loaders[label] = loader
    if settings.suite or not settings.loaders:
        for name, loader in _returned(config, "pytest_ckptload_loaders", {*RECIPES, *loaders}):
            check_loader(loader)
            loaders[name] = loader
    return loaders, recipes


def _optimizers(config: pytest.Config) -> dict[str, MakeOptimizer]:
    """The user's optimizer factories by name."""
    optimizers: dict[str, MakeOptimizer] = {}
    for name, make in _returned(config, _OPTIMIZERS, set()):
        if not callable(make):
            raise TypeError(
                f"{_OPTIMIZERS}: {name!r} is a callable that makes an optimizer for a module, "
                f"not {make!r}"
            )
        optimizers[name] = make
    return optimizers


def _returned(config: pytest.Config, hook: str, taken: set[str]) -> Iterator[tuple[str, Any]]:
    """What a hook returned by names, of which none may be ``taken``, or returned before."""
    for answer in getattr(config.hook, hook)(config=config):
        if not isinstance(answer, Mapping):
            raise TypeError(f"{hook}: expected a dict by names, not {answer!r}")
        for name, value in answer.items():
            if name in taken:
                raise ValueError(f"{hook}: the name {name!r} is taken")
            taken.add(name)
            yield name, value


class _Suite(pytest.Collector):
    """The root: one collector for each loader."""

    plugin: SuitePlugin

    def collect(self) -> Iterator[pytest.Collector]:
        by_name: dict[str, list[SuiteTest]] = {}
        for test in self.plugin.tests:
            by_name.setdefault(test.subject.name, []).append(test)
        for name, tests in by_name.items():
            loader = _LoaderTests.from_parent(self, name=name)
            loader.tests, loader.selected = tests, self.plugin.selected
            yield loader


class _LoaderTests(pytest.Collector):
    """The tests of one loader."""

    tests: list[SuiteTest]
    selected: tuple[str, ...]

    def collect(self) -> Iterator[pytest.Item]:
        for test in self.tests:
            # Spelt out: from the parent's, pytest would take the device for part of the name.
            item = _SuiteItem.from_parent(self, name=test.name, nodeid=_nodeid(test))
            item.test = test
            if not self.selected or any(_within(item.nodeid, node) for node in self.selected):
                yield item


def _nodeid(test: SuiteTest) -> str:
    return f"{ROOT}::{test.subject.name}::{test.name}"


def _within(nodeid: str, selected: str) -> bool:
    return nodeid == selected or nodeid.startswith((selected + "::", selected + "["))


class _SuiteItem(pytest.Item):
    """One test."""

    test: SuiteTest

    def runtest(self) -> None:
        __tracebackhide__ = True
        checker = checker_for(self)
        if self.test.group.mutants:
            arguments = {**self.test.group.arguments, "devices": [self.test.device]}
            with_mutants(self, checker, "check", self.test.subject.load, arguments)
            return
        met, unmet = self.test.run(checker)
        if unmet:
            lines = "\n".join(f"  {line}" for line in unmet)
            pytest.fail(
                "This torch no longer does what it is known to do:\n"
                f"{lines}\nTake it out of the table of known divergences, from this release on.",
                pytrace=False,
            )
        if met:
            pytest.xfail("; ".join(map(str, met)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, CheckpointMismatch):
            return excinfo.value.report
        if isinstance(excinfo.value, pytest.xfail.Exception):
            return excinfo.value.msg  # a traceback would take 0.1 s, and be shown to nobody
        if isinstance(excinfo.value, (TypeError, ValueError, OSError)) and _ours(excinfo):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        return self.config.rootpath / ROOT, None, self.nodeid.partition("::")[2]


_SENTENCES = (
    "factory.py",
    "inputs.py",
    "checks.py",
    "runs.py",
    "given.py",
    "from_state.py",
    "saving.py",
)


def _ours(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Whether the error is a sentence about what the user handed in."""
    raised_in = excinfo.traceback[-1].frame.code.raw.co_filename
    # An error from a worker has a cause, its traceback, unless it is such a sentence.
    from_worker = raised_in == process.__file__ and excinfo.value.__cause__ is None
    return from_worker or raised_in.endswith(_SENTENCES)
