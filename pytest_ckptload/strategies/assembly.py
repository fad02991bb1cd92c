"""Cases put together: features and leaves, as a function that chooses has it.

Apart from the strategies because Hypothesis is but one that chooses; the covering set does without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from pytest_ckptload.case import Case, ModuleSpec, TensorSpec
from pytest_ckptload.contents import value_kinds
from pytest_ckptload.strategies.arguments import check_names
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan, first
from pytest_ckptload.zoo.structure import Structure, structure_of

__all__ = ["Code", "Wish", "assemble", "in_rounds", "selected", "variants"]

T = TypeVar("T")


def selected(
    features: Sequence[str] | None = None, without: Sequence[str] = (), *, of_module: bool = True
) -> list[Feature]:
    """The features by these names, all where ``features`` is ``None``, less those ``without``, and
    less those of optimizers.

    Raises ``InvalidArgument`` for a name that is none.
    """
    check_names("features", features or (), FEATURES)
    check_names("without", without, FEATURES)
    names = FEATURES if features is None else features
    chosen = [FEATURES[name] for name in FEATURES if name in names and name not in without]
    return [f for f in chosen if f.of == "checkpoint" or (of_module and f.of == "module")]


@dataclass(frozen=True)
class Wish:
    """A feature that a case is to have, and what chooses where it leaves a choice."""

    feature: Feature
    choose: Choose = first


class Code:
    """Chooses by a number below ``LIMIT``: the remainder of each division by how many options there
    are.

    So the choices of a feature are one draw, and go when it goes; 0 makes the first choice always.
    Where a number does not hold enough of them, ``more`` gives another.
    """

    # Hypothesis draws numbers from wider ranges mostly from their lower end.
    LIMIT = 1 << 8

    def __init__(self, number: int, more: Callable[[int], int]) -> None:
        self.number = number
        self.room = self.LIMIT
        self.more = more

    def __call__(self, options: Sequence[T], /) -> T:
        count = len(options)
        if count > self.room:
            self.room = max(self.LIMIT, count)
            self.number = self.more(self.room)
        self.room //= count
        self.number, index = divmod(self.number, count)
        return options[index]


def assemble(
    wishes: Sequence[Wish],
    structure: Structure | None = None,
    *,
    leaves: Sequence[ModuleSpec] = (),
    container: str = "",
    special: Choose | None = None,
) -> Case:
    """A case with these features, as far as they go together.

    Its module has the ``leaves`` beside what the features bring, in a ``container`` if they are to
    be in one; or is the given one that has this ``structure``. ``special`` chooses a value that
    loaders lose, its tensor and its place.
    """
    plan = Plan()
    module = None
    if structure is None:
        _grow(plan, wishes, leaves, container)
        module = _settle(plan, wishes)
    else:
        plan.structure = structure
    if special is not None:
        _sprinkle(plan, special)
    for wish in wishes:
        if wish.feature.of == "checkpoint":
            _apply(plan, wish)
    return plan.case(module)


def _apply(plan: Plan, wish: Wish) -> None:
    if wish.feature.apply(plan, wish.choose) is not False:
        plan.features.append(wish.feature.name)


def _grow(plan: Plan, wishes: Sequence[Wish], leaves: Sequence[ModuleSpec], container: str) -> None:
    """Give the plan its modules: those of the features, and leaves around them.

    Features that are put on tensors meet on those of the others, where there are any.
    """
    brought = [w for w in wishes if w.feature.of == "module" and not w.feature.settled]
    for wish in brought:
        _apply(plan, wish)
    for wish in wishes:
        if wish not in brought and (not plan.children or wish.choose((False, False, True))):
            wish.feature.base(plan, wish.choose)
    if container:
        names = "abc" if container == "ModuleDict" else "012"
        children = dict(zip(names, leaves, strict=False))
        plan.children.append(ModuleSpec(container, children=children))
    else:
        plan.children += leaves
    if not plan.children:
        plan.add("Linear", in_features=1, out_features=1)


def _settle(plan: Plan, wishes: Sequence[Wish]) -> ModuleSpec:
    """Finish the module: put features on the tensors it has by now."""
    module = plan.module()
    plan.structure = structure_of(module.build(plan.seed))
    for wish in wishes:
        if wish.feature.of == "module" and wish.feature.settled:
            edits = len(plan.last_edits)
            _apply(plan, wish)
            if len(plan.last_edits) > edits:
                module = plan.module()
                plan.structure = structure_of(module.build(plan.seed))
    return module


def _sprinkle(plan: Plan, choose: Choose) -> None:
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


def in_rounds(kinds: Iterable[Iterable[Case]]) -> Iterator[Case]:
    """The first case of each kind, then the second of each that has one, and so on."""
    for together in zip_longest(*kinds):
        yield from (case for case in together if case is not None)


def _departing(position: int, other: int) -> Choose:
    asked = -1

    def choose(options: Sequence[T], /) -> T:
        nonlocal asked
        asked += 1
        return options[min(other, len(options) - 1)] if asked == position else options[0]

    return choose
