"""Optimizers, random and covering, alone and in cases for resumers.

Apart from the cases without one because an optimizer is put on a case that is finished: it suits
whatever module there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from pytest_ckptload.case import Case, ModuleSpec, OptimizerSpec
from pytest_ckptload.strategies.assembly import in_rounds, variants
from pytest_ckptload.strategies.cases import random_cases
from pytest_ckptload.strategies.covering import covering
from pytest_ckptload.strategies.pairs import paired
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.feature import Choose, Feature, Plan, first
from pytest_ckptload.zoo.optimizers import OPTIMIZERS, OptimizerEntry
from pytest_ckptload.zoo.structure import Structure

__all__ = ["optimizers", "resume_cases", "resume_covering"]

T = TypeVar("T")

_ENTRIES = tuple(OPTIMIZERS.values())

# Two parameters, one of which every class can step: enough for every feature.
_MODULE = ModuleSpec("Linear", {"in_features": 2, "out_features": 2})


def optimizers(
    *, classes: Sequence[str] | None = None, features: Sequence[str] | None = None
) -> st.SearchStrategy[OptimizerSpec]:
    """Strategy for optimizers, as data: ``.build(module)`` makes one for any module.

    ``classes`` are names of ``torch.optim``, simplest first; ``features`` those of optimizers, of
    which a random few are on. Left out, there are all. Optimizers shrink to the first of the
    classes, ``AdamW``, with a learning rate and nothing else.

    Raises ``InvalidArgument`` for a name that is none.
    """
    given = {"classes": classes, "features": features}
    named = {name: value for name, value in given.items() if value is not None}
    for argument, names in named.items():
        if isinstance(names, str) or (argument == "classes" and not names):
            raise InvalidArgument(f"{argument}={names!r}: expected a list of names")
        known: Mapping[str, object] = OPTIMIZERS if argument == "classes" else _features()
        for name in names:
            if name not in known:
                choices = ", ".join(known)
                raise InvalidArgument(f"{argument}: there is no {name!r}; there are: {choices}")
    return _optimizers(**named)


def _drawn(draw: st.DrawFn, /, **named: Sequence[str]) -> OptimizerSpec:
    entries = tuple(OPTIMIZERS[name] for name in named.get("classes", OPTIMIZERS))
    case = _with_random_optimizer(draw, Case(), entries, _features(named.get("features")))
    assert case.optimizer is not None
    return case.optimizer


_drawn.__name__ = "optimizers"  # the strategy prints as the call that made it
_optimizers = st.composite(_drawn)


def resume_cases(
    *,
    features: Sequence[str] | None = None,
    without: Sequence[str] = (),
    structure: Structure | None = None,
) -> st.SearchStrategy[Case]:
    """Strategy for cases with an optimizer, and a random few of its ``features`` beside the
    module's. Otherwise as ``cases``.
    """
    some = _features(features, without)
    return _resume_cases(
        random_cases(features=features, without=without, structure=structure), some
    )


def resume_covering(
    *,
    features: Sequence[str] | None = None,
    without: Sequence[str] = (),
    structure: Structure | None = None,
) -> Iterator[Case]:
    """The cases that a check of a resumer begins with: those without an optimizer's feature, with
    the simplest optimizer, in turns with each choice of each feature of optimizers alone, and each
    class, where all features, or none, are wanted; pairs of those that have few choices; last,
    where all are wanted, each class with every feature that it takes, in as few cases as can be.
    """
    plain = Case(_MODULE if structure is None else None)
    chosen = [*_features(features, without).values()]
    covered: Counter[str] = Counter()
    kinds = [_choices(feature, plain, covered) for feature in chosen]
    if not features:
        kinds.append(replace(plain, optimizer=_simplest(entry)) for entry in _ENTRIES[1:])
    simple = covering(features=features, without=without, structure=structure)
    of_modules = (replace(case, optimizer=_simplest(_ENTRIES[0])) for case in simple)
    yield from in_rounds([of_modules, in_rounds(kinds)])
    yield from paired(chosen, covered, partial(_with_first_optimizer, plain))
    if features is None:
        for entry in _ENTRIES:
            yield from _crowded(plain, _simplest(entry), chosen)


def _crowded(case: Case, spec: OptimizerSpec, features: Sequence[Feature]) -> Iterator[Case]:
    """``case`` with this optimizer, and all features that it takes: so many at once as leave each
    other what they are.
    """
    left = [feature for feature in features if _takes(spec, feature)]
    while left:
        plan = Plan(optimizer=spec)
        on = []
        for feature in left:
            before = plan.optimizer
            if feature.apply(plan, first) is False or not _keeps(before, plan.optimizer, spec):
                plan.optimizer = before
            else:
                on.append(feature)
        yield _with_optimizer(case, spec, on, first)
        left = [feature for feature in left if feature not in on]


def _keeps(before: OptimizerSpec, after: OptimizerSpec, simplest: OptimizerSpec) -> bool:
    """Whether all by which ``before`` differs from the simplest one is in ``after``, too."""
    return (
        all(
            getattr(after, name) == value
            for name, value in vars(before).items()
            if name != "kwargs" and value != getattr(simplest, name)
        )
        and after.kwargs.items() >= before.kwargs.items()
    )


def _choices(feature: Feature, plain: Case, covered: Counter[str]) -> Iterator[Case]:
    """Each choice of the feature alone, on the first optimizer that takes it."""
    takers = [spec for spec in map(_simplest, _ENTRIES) if _takes(spec, feature)]
    for spec in takers[:1]:
        for case in variants(partial(_with_optimizer, plain, spec, [feature])):
            covered.update(case.features)
            yield case


def _with_first_optimizer(case: Case, on: Sequence[Feature]) -> Case:
    """``case`` with the first optimizer that takes the most of these features."""
    made = (_with_optimizer(case, spec, on, first) for spec in map(_simplest, _ENTRIES))
    return max(made, key=lambda case: len(case.features))


def _simplest(entry: OptimizerEntry) -> OptimizerSpec:
    return OptimizerSpec(entry.name, entry.kwargs(first))


def _takes(spec: OptimizerSpec, feature: Feature) -> bool:
    return feature.apply(Plan(optimizer=spec), first) is not False


def _features(
    features: Sequence[str] | None = None, without: Sequence[str] = ()
) -> dict[str, Feature]:
    return {
        name: feature
        for name, feature in FEATURES.items()
        if feature.of == "optimizer"
        and (features is None or name in features)
        and name not in without
    }


@st.composite
def _resume_cases(
    draw: st.DrawFn, without_one: st.SearchStrategy[Case], some: Mapping[str, Feature]
) -> Case:
    return _with_random_optimizer(draw, draw(without_one), _ENTRIES, some)


def _with_random_optimizer(
    draw: st.DrawFn, case: Case, entries: Sequence[OptimizerEntry], some: Mapping[str, Feature]
) -> Case:
    def choose(options: Sequence[T], /) -> T:
        return options[draw(st.integers(0, len(options) - 1))]

    picked = draw(st.lists(st.sampled_from([*some]), max_size=3)) if some else []
    on = [feature for name, feature in some.items() if name in picked]
    entry = choose(entries)
    # Plain ones make no further choice: so that the first of the classes is the smallest of all.
    kwargs = entry.kwargs(choose((first, choose, choose)))
    return _with_optimizer(case, OptimizerSpec(entry.name, kwargs), on, choose)


def _with_optimizer(case: Case, spec: OptimizerSpec, on: Sequence[Feature], choose: Choose) -> Case:
    """``case`` with this optimizer, and those of the features that the optimizer takes."""
    plan = Plan(optimizer=spec)
    for feature in on:
        if feature.apply(plan, choose) is not False:
            plan.features.append(feature.name)
    module = case.module
    if module is not None:
        module = replace(module, edits=(*module.edits, *plan.edits))
    features = (*case.features, *plan.features)
    return replace(case, module=module, features=features, optimizer=plan.optimizer)
