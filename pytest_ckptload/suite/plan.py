"""Which tests the suite has: loader × group × device, as data.

Apart from the collector so that what is tested can be read, and counted, without pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pytest_ckptload.case import Case
from pytest_ckptload.checks import Checker
from pytest_ckptload.examine.resuming import adamw, nadam
from pytest_ckptload.finding import Finding
from pytest_ckptload.loader import Build, Loader, MakeOptimizer, Resumer
from pytest_ckptload.recipes import RECIPES, RESUMERS, mmap_stream
from pytest_ckptload.suite.divergences import Divergence, divergences_of
from pytest_ckptload.zoo import FEATURES

__all__ = [
    "OPTIMIZER",
    "Group",
    "Subject",
    "SuiteTest",
    "groups",
    "mutant_groups",
    "resume_groups",
    "subjects",
]

# The group without features, which has every class of the catalogue.
PLAIN = "plain"

# What the groups with an optimizer of the user's are called, before its name.
OPTIMIZER = "optimizer-"

# Random cases for each feature: few, for the suite has hundreds of groups, and what a feature shows
# alone the covering set has shown.
_EXAMPLES = 3

# The dtype that the casting recipe is judged with.
_STREAM_DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Subject:
    """A loader under its name in the suite, what it is asked for, and what it is known to get
    wrong.
    """

    name: str
    load: Loader | Resumer
    demands: Mapping[str, Any] = field(default_factory=dict)
    known: tuple[Divergence, ...] = ()
    training: bool = False


@dataclass(frozen=True)
class Group:
    """What one test generates: cases with one feature, or with any, or for one given module or
    file; ``at_random`` leaves out the fixed ones. With ``mutants`` those of the loader are tried.
    """

    name: str
    arguments: Mapping[str, Any]
    feature: str | None = None
    examples: int = _EXAMPLES
    at_random: bool = False
    mutants: bool = False

    def meets(self, line: Divergence) -> bool:
        """Whether the fixed cases of this group are sure to meet a known divergence."""
        if line.beside is not None:
            return False
        if self.name == PLAIN:
            return line.feature is None
        return line.feature is not None and line.feature == self.feature


@dataclass(frozen=True)
class SuiteTest:
    """One test of the suite."""

    subject: Subject
    group: Group
    device: str

    @property
    def name(self) -> str:
        return f"{self.group.name}[{self.device}]"

    def run(self, checker: Checker) -> tuple[list[Divergence], list[Divergence]]:
        """Run the check. The answer is the known divergences that were sure to be met: those that
        were, and those that were not.

        Raises ``CheckpointMismatch`` for anything else that is found.
        """
        __tracebackhide__ = True
        known = [line for line in self.subject.known if line.shows_on(self.device)]
        met: set[Divergence] = set()

        def allow(finding: Finding, case: Case) -> str | None:
            for line in known:
                if line.covers(finding, case):
                    met.add(line)
                    return str(line)
            return None

        if self.group.at_random:
            checker = checker.at_random()
        examples = checker.defaults.max_examples
        check: Callable[..., Any] = checker.check_resume if self.subject.training else checker.check
        check(
            self.subject.load,
            devices=[self.device],
            allow=allow,
            max_examples=self.group.examples if examples is None else examples,
            **{**self.subject.demands, **self.group.arguments},
        )
        expected = [line for line in known if self.group.meets(line)]
        if checker.defaults.replay is not None:
            expected = []
        return [e for e in expected if e in met], [e for e in expected if e not in met]


def subjects(loaders: Mapping[str, Loader], *, recipes: bool, torch_version: str) -> list[Subject]:
    """The recipes, where wanted, and the user's loaders."""
    chosen = []
    if recipes:
        for name, recipe in RECIPES.items():
            demands: dict[str, Any] = {"promises": ("strict", "robust", "formats")}
            if recipe is mmap_stream:
                recipe = partial(mmap_stream, dtype=_STREAM_DTYPE)
                demands["dtype"] = _STREAM_DTYPE
            known = tuple(divergences_of(name, torch_version))
            chosen.append(Subject(name, recipe, demands, known))
        for name, resumer in RESUMERS.items():
            known = tuple(divergences_of(name, torch_version))
            chosen.append(Subject(name, resumer, known=known, training=True))
    chosen += [Subject(name, load) for name, load in loaders.items()]
    return chosen


def mutant_groups(models: Mapping[str, Build]) -> Iterator[Group]:
    """The checks that the mutants of a loader are held to: all that there is, in one."""
    if not models:
        yield Group("mutants", {}, mutants=True)
    for name, build in models.items():
        yield Group(f"mutants-{name}", {"build": build}, mutants=True)


def resume_groups(optimizers: Mapping[str, MakeOptimizer]) -> Iterator[Group]:
    """The groups that each resumer is tested with: optimizers, and what makes it hard for them;
    last, each of the ``optimizers`` of the user's.
    """
    yield Group("optimizers", {"features": ()}, examples=40)
    for name, feature in FEATURES.items():
        if feature.of == "optimizer":
            yield Group(name, {"features": (name,)}, feature=name)
    known: dict[str, MakeOptimizer] = {"tied": adamw, "frozen": adamw, "low-precision": nadam}
    for name, make in known.items():
        arguments = {"features": (name,), "make_optimizer": make}
        yield Group(name, arguments, feature=name)
    yield Group("mixed", {}, examples=40)
    for name, make in optimizers.items():
        yield Group(f"{OPTIMIZER}{name}", {"features": (), "make_optimizer": make}, examples=20)


def groups(
    *,
    models: Mapping[str, Build],
    checkpoint: Path | None,
    replay: bool,
    features: tuple[str, ...] | None,
    without: tuple[str, ...],
) -> Iterator[Group]:
    """The groups that each loader is tested with."""
    if replay:
        yield from (Group(name, {"build": model}) for name, model in models.items())
        if not models:
            yield Group("replay", {})
    elif checkpoint is not None:
        yield from (
            Group(f"{checkpoint.name}-{name}", {"checkpoint": checkpoint, "build": model})
            for name, model in models.items()
        )
        if not models:
            yield Group(checkpoint.name, {"checkpoint": checkpoint})
    elif models:
        for name, model in models.items():
            yield Group(name, {"build": model}, examples=100)
    else:
        chosen = [
            name
            for name, feature in FEATURES.items()
            if feature.of != "optimizer"
            and (features is None or name in features)
            and name not in without
        ]
        if features is None:
            yield Group(PLAIN, {"features": ()})
        for name in chosen:
            yield Group(name, {"features": (name,)}, feature=name)
        # The fixed cases of each feature are in a group of its own.
        together = {"features": tuple(chosen)}
        yield Group("mixed", together, examples=20 * _EXAMPLES, at_random=True)
