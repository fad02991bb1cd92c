"""Cases put together: features and leaves, as a function that chooses has it.

Apart from the strategies because Hypothesis is but one that chooses; the covering set does without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from hypothesis.errors import InvalidArgument

from pytest_ckptload.case import Case, ModuleSpec, TensorSpec
from pytest_ckptload.contents import value_kinds
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.catalogue import CATALOGUE
from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan
from pytest_ckptload.zoo.structure import Structure, structure_of

__all__ = ["assemble", "selected", "variants"]

T = TypeVar("T")


def selected(
    features: Sequence[str] | None = None, without: Sequence[str] = (), *, of_module: bool = True
) -> list[Feature]:
    """The features by these names, all where ``features`` is ``None``, less those ``without``, and
    less those of optimizers.

    Raises ``InvalidArgument`` for a name that is none.
    """
    for name in (*(features or ()), *without):
        if name not in FEATURES:
            raise InvalidArgument(f"there is no feature {name!r}; there are: {', '.join(FEATURES)}")
    names = FEATURES if features is None else features
    chosen = [FEATURES[name] for name in FEATURES if name in names and name not in without]
    return [f for f in chosen if f.of == "checkpoint" or (of_module and f.of == "module")]


def assemble(
    on: list[Feature], choose: Choose, structure: Structure | None, *, alone: bool = True
) -> Case:
    """A case with these features, as ``choose`` has it; ``alone`` leaves all else plain."""
    plan = Plan()
    module = None
    if structure is None:
        _grow(plan, on, choose, alone=alone)
        module = _settle(plan, on, choose)
    else:
        plan.structure = structure
    if not alone:
        _sprinkle(plan, choose)
    for feature in on:
        if feature.of == "checkpoint" and feature.apply(plan, choose) is not False:
            plan.features.append(feature.name)
    return plan.case(module)


def _grow(plan: Plan, on: list[Feature], choose: Choose, *, alone: bool) -> None:
    """Give the plan its modules: those of the features, and leaves of the catalogue around them.

    Leaves are drawn first, and their number from one offer, so that both halves shrink by
    themselves. Features that are put on tensors meet on those of the others, where there are any.
    """
    leaves = [] if alone else [_leaf(choose) for _ in range(choose((0, 1, 2, 3)))]
    containers = ("", "ModuleList", "ModuleDict", "Sequential")
    container = choose(containers) if len(leaves) > 1 else ""
    brought = [f for f in on if f.of == "module" and not f.settled]
    for feature in brought:
        if feature.apply(plan, choose) is not False:
            plan.features.append(feature.name)
    for feature in on:
        apart = not plan.children or (not alone and choose((False, False, True)))
        if feature not in brought and apart:
            feature.base(plan, choose)
    if container:
        names = "abc" if container == "ModuleDict" else "012"
        children = dict(zip(names, leaves, strict=False))
        plan.children.append(ModuleSpec(container, children=children))
    else:
        plan.children += leaves
    if not plan.children:
        plan.add("Linear", in_features=1, out_features=1)


def _settle(plan: Plan, on: list[Feature], choose: Choose) -> ModuleSpec:
    """Finish the module: put features on the tensors it has by now."""
    module = plan.module()
    plan.structure = structure_of(module.build(plan.seed))
    for feature in on:
        if feature.of == "module" and feature.settled:
            edits = len(plan.last_edits)
            if feature.apply(plan, choose) is not False:
                plan.features.append(feature.name)
            if len(plan.last_edits) > edits:
                module = plan.module()
                plan.structure = structure_of(module.build(plan.seed))
    return module


def _leaf(choose: Choose) -> ModuleSpec:
    entry = choose(_LEAVES)
    return entry.spec(choose)


_LEAVES = tuple(entry for entry in CATALOGUE.values() if not entry.slow)


def _sprinkle(plan: Plan, choose: Choose) -> None:
    """Put a value that loaders lose into one tensor, now and then."""
    if choose((False, False, True)):
        slots = [s for s in plan.structure.saved if s.numel and value_kinds(s.dtype)]
        if slots:
            slot = choose(slots)
            kind = choose(value_kinds(slot.dtype))
            plan.tensors[slot.group] = TensorSpec(values=((choose(range(slot.numel)), kind),))


def variants(make: Callable[[Choose], Case]) -> Iterator[Case]:
    """The simplest case that is made, then those that depart from it in one choice."""
    offered: list[int] = []

    def record(options: Sequence[T], /) -> T:
        offered.append(options.fast if isinstance(options, Covered) else min(len(options), 4))
        return options[0]

    yield make(record)
    for position, count in enumerate(offered):
        for other in range(1, count):
            yield make(_departing(position, other))


def _departing(position: int, other: int) -> Choose:
    asked = -1

    def choose(options: Sequence[T], /) -> T:
        nonlocal asked
        asked += 1
        return options[min(other, len(options) - 1)] if asked == position else options[0]

    return choose
