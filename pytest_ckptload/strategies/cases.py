"""Cases, random and covering.

Structure is drawn and contents are filled, so that a case costs few draws. Apart from the zoo,
which says what there is to draw from and knows nothing of Hypothesis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from pytest_ckptload.case import Case, CheckpointSpec, ModuleSpec, TensorSpec
from pytest_ckptload.contents import value_kinds
from pytest_ckptload.dtypes import COMPLEX, LOW_PRECISION, ORDINARY, RARE, known, named
from pytest_ckptload.strategies.pairs import paired
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.catalogue import CATALOGUE
from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan, first
from pytest_ckptload.zoo.structure import Structure, structure_of

__all__ = ["cases", "checkpoints", "covering", "modules", "selected", "variants"]

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


def cases(
    *,
    features: Sequence[str] | None = None,
    without: Sequence[str] = (),
    always: Sequence[str] = (),
    structure: Structure | None = None,
) -> st.SearchStrategy[Case]:
    """Strategy for cases: a module, a checkpoint for it, and a random few of the ``features``.

    Features in ``always`` are in every case. With a ``structure`` the cases are checkpoints for
    that module, and have none of their own. Cases shrink to one small module with plain contents.
    """
    some = selected(features, without, of_module=structure is None)
    fixed = selected(always, of_module=structure is None) if always else []
    return _cases(tuple(some), tuple(fixed), structure)


def modules(*, features: Sequence[str] | None = None) -> st.SearchStrategy[ModuleSpec]:
    """Strategy for modules, as data: ``.build()`` makes one."""
    names = [f.name for f in selected(features) if f.of == "module"]
    return cases(features=names).map(_module)


def checkpoints(
    *, structure: Structure | None = None, features: Sequence[str] | None = None
) -> st.SearchStrategy[CheckpointSpec]:
    """Strategy for checkpoints of a module with this ``structure`` that the eager recipe loads."""
    names = [f.name for f in selected(features) if f.of == "checkpoint" and f.ordinary()]
    return cases(features=names, structure=structure).map(lambda case: case.checkpoint)


def _module(case: Case) -> ModuleSpec:
    assert case.module is not None
    return case.module


@st.composite
def _cases(
    draw: st.DrawFn,
    some: tuple[Feature, ...],
    fixed: tuple[Feature, ...],
    structure: Structure | None,
) -> Case:
    def choose(options: Sequence[T], /) -> T:
        if len(options) == 1:
            return options[0]
        return options[draw(st.integers(0, len(options) - 1))]

    on = list(fixed)
    if some:
        picked = draw(st.lists(st.integers(0, len(some) - 1), max_size=3))
        on += [f for f in dict.fromkeys(some[i] for i in picked) if f not in fixed]
    return _assemble(on, choose, structure, alone=False)


def covering(
    *,
    features: Sequence[str] | None = None,
    without: Sequence[str] = (),
    structure: Structure | None = None,
) -> Iterator[Case]:
    """The cases every check begins with: a plain one, each choice of each feature alone, each
    class; last, pairs of the features that have few choices.

    They are minimal by construction: all choices but one are the simplest. Classes and special
    values come where all features, or none, are wanted.
    """
    everything = selected(features, without, of_module=structure is None)
    whole = features is None or not features
    if whole:
        yield _assemble([], first, structure)
    covered: Counter[str] = Counter()
    for feature in everything:
        seen = []
        for case in variants(partial(_assemble, [feature], structure=structure)):
            if feature.name in case.features and case not in seen:
                seen.append(case)
                covered.update(case.features)
                yield case
        if structure is None:
            yield from _special_values(feature.name)
    if whole:
        if structure is not None:
            yield from _special_values_of(structure)
        else:
            yield from _special_values("")
            for entry in CATALOGUE.values():
                yield Case(entry.spec(first))
            yield from _containers()
            # More than a page, and not a whole number of them.
            yield Case(ModuleSpec("Linear", {"in_features": 64, "out_features": 65}))
    yield from paired(everything, covered, lambda on: _assemble(on, first, structure))


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


def _special_values_of(structure: Structure) -> Iterator[Case]:
    """Each value that loaders lose, in the first tensor of a given module that can hold any."""
    for slot in [s for s in structure.saved if s.numel and value_kinds(s.dtype)][:1]:
        for kind in value_kinds(slot.dtype):
            yield Case(None, CheckpointSpec({slot.name: TensorSpec(values=((0, kind),))}))


# The dtypes by the feature that has to be on for them; the first need none.
_DTYPES = {"": ORDINARY, "low-precision": LOW_PRECISION, "complex": COMPLEX, "rare-dtype": RARE}

# In these a loader is likely to lose one kind of value and keep the others.
_SEPARATE = ("float32", "int64", "bfloat16")


def _special_values(feature: str) -> Iterator[Case]:
    """Each value that loaders lose, in each dtype that comes with this feature, all in one tensor;
    in some dtypes each alone as well.
    """
    for dtype in known(_DTYPES.get(feature, ())):
        exact = named(dtype)
        floating = exact.is_floating_point or exact.is_complex
        factory, name = ("Weights", "weight") if floating else ("Codes", "codes")
        kinds = value_kinds(exact)
        chosen = [tuple(enumerate(kinds))] if kinds else []
        if dtype in _SEPARATE:
            chosen += [((1, kind),) for kind in kinds]
        for values in chosen:
            module = ModuleSpec(factory, {"size": max(2, len(values)), "dtype": dtype})
            checkpoint = CheckpointSpec({name: TensorSpec(values=values)})
            yield Case(module, checkpoint, (feature,) if feature else ())


def _containers() -> Iterator[Case]:
    """Each container with as many children as it takes for "10" to stand before "2"."""
    leaf = ModuleSpec("PReLU", {"num_parameters": 1})
    for container in ("Sequential", "ModuleList", "ModuleDict"):
        yield Case(ModuleSpec(container, children={str(i): leaf for i in range(11)}))


def _assemble(
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
