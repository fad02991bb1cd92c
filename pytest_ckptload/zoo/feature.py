"""What a feature is: something a case may contain that loaders get wrong.

Apart from the features so that each of them is one small file. A feature changes a *plan*, the case
in the making, and takes its choices from a ``choose`` function, simplest first: Hypothesis stands
behind it for random cases, "always the first" for the covering set, which is minimal so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Protocol, TypeVar

from pytest_ckptload.case import (
    Case,
    CheckpointSpec,
    Damage,
    Edit,
    ModuleSpec,
    OptimizerSpec,
    TensorSpec,
    View,
)
from pytest_ckptload.zoo.structure import Slot, Structure

__all__ = ["Choose", "Covered", "Feature", "Plan", "first"]

T = TypeVar("T")


class Covered(tuple[T, ...]):
    """Options of which the covering set tries all, or so many as are ``fast``; it tries a few of
    others.
    """

    fast: int

    @classmethod
    def of(cls, options: Iterable[T], slow: Iterable[T] = ()) -> Covered[T]:
        """Options that are all covered, and behind them those that are met at random only."""
        quick = tuple(options)
        made = cls((*quick, *slow))
        made.fast = len(quick)
        return made


class Choose(Protocol):
    """Picks one of the options, which stand simplest first."""

    def __call__(self, options: Sequence[T], /) -> T: ...


def first(options: Sequence[T], /) -> T:
    """The choice that makes minimal cases."""
    return options[0]


@dataclass
class Plan:
    """A case in the making: a module as a list of children and edits, then its checkpoint.

    Module features run first. ``structure`` is set once the module has its names, before those
    features run that pick from them: the rest of the module's, whose edits come last, then the
    checkpoint's. A feature that says sooner what the file holds asks for a module that is
    ``numbered``, so that the prefixes that ``add`` answers are those of the names.
    """

    children: list[ModuleSpec] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    last_edits: list[Edit] = field(default_factory=list)
    numbered: bool = False
    seed: int = 0
    structure: Structure = field(default_factory=Structure)
    tensors: dict[str, TensorSpec] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    ties: str = "shared"
    missing: list[str] = field(default_factory=list)
    extra: dict[str, TensorSpec] = field(default_factory=dict)
    damage: Damage | None = None
    order: str = "module"
    prefix: str = ""
    payload: str = ""
    metadata: bool = True
    format: str = "zip"
    device: str | None = None
    renamed: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    objects: dict[str, object] = field(default_factory=dict)
    features: list[str] = field(default_factory=list)
    optimizer: OptimizerSpec = field(default_factory=lambda: OptimizerSpec("AdamW", {"lr": 0.125}))

    def add(self, factory: str, /, **kwargs: object) -> str:
        """Append a child; the answer is the prefix of its names, ``"2."``."""
        self.children.append(ModuleSpec(factory, kwargs))
        return f"{len(self.children) - 1}."

    def edit(self, function: str, /, **kwargs: object) -> None:
        """Have ``function(module, **kwargs)`` called on the whole module once it is built."""
        edits = self.last_edits if self.structure.saved else self.edits
        edits.append(Edit(function, kwargs))

    def free(self, suits: Callable[[Slot], bool] = lambda slot: True) -> list[Slot]:
        """The slots of the file that no other checkpoint feature has taken, and that suit."""
        taken = {
            *self.tensors,
            *self.missing,
            *self.renamed,
            *(name for view in self.views for name in view.names),
        }
        return [s for s in self.structure.saved if s.name not in taken and suits(s)]

    def give_entry(
        self, choose: Choose, slots: Sequence[Slot], spec: Callable[[Slot], TensorSpec]
    ) -> bool:
        """Give one of the ``slots`` an entry of its own in the file; its twins have the same."""
        if not slots:
            return False
        chosen = choose(slots)
        entry = spec(chosen)
        for slot in self.structure.saved:
            if slot.group == chosen.group:
                self.tensors[slot.name] = entry
        return True

    def holds(self, dtypes: Collection[str]) -> bool:
        """Whether the file has a tensor of one of these dtypes."""
        entries = [*self.tensors.values(), *self.extra.values()]
        held = {str(slot.dtype).removeprefix("torch.") for slot in self.structure.saved}
        return not held.union(e.dtype for e in entries if e.dtype).isdisjoint(dtypes)

    def write_as(self, format: str) -> bool:
        """Have the file written in this format, where neither format nor damage is settled yet."""
        if self.format != "zip" or self.damage is not None:
            return False
        self.format = format
        return True

    def module(self) -> ModuleSpec:
        """The module so far."""
        if len(self.children) == 1 and not self.edits and not self.numbered:
            module = self.children[0]
        else:
            children = {str(i): child for i, child in enumerate(self.children)}
            module = ModuleSpec("Sequential", children=children, edits=tuple(self.edits))
        return replace(module, edits=(*module.edits, *self.last_edits))

    def case(self, module: ModuleSpec | None) -> Case:
        """The finished case."""
        settled = {f.name: getattr(self, f.name) for f in fields(CheckpointSpec)}
        lists = {name: tuple(value) for name, value in settled.items() if isinstance(value, list)}
        checkpoint = CheckpointSpec(**{**settled, **lists})
        return Case(module, checkpoint, tuple(self.features), self.seed)


def _two_tensors(plan: Plan, choose: Choose) -> None:
    plan.add("Linear", in_features=2, out_features=2)


@dataclass(frozen=True)
class Feature:
    """Something a case may contain that loaders get wrong.

    ``apply`` changes the plan and returns false where there is nothing in it that the feature could
    be put on. ``of`` says which part it changes, ``"module"``, ``"checkpoint"`` or ``"optimizer"``:
    features of the module need a generated module, those of the optimizer a resumer.

    A feature of the module is applied before the names of its tensors are known, and brings tensors
    of its own; with ``settled`` it is put on those that are there, whose names ``plan.structure``
    has by then. What is put on tensors has a ``base``, which gives a generated module some where
    nothing else did.

    ``promise`` is what a loader has to promise for the feature to be generated. ``loadable`` says
    that the eager recipe loads such a file.
    """

    name: str
    of: str
    sentence: str
    references: tuple[str, ...]
    apply: Callable[[Plan, Choose], bool | None]
    factories: tuple[Callable[..., object], ...] = ()
    base: Callable[[Plan, Choose], object] = _two_tensors
    settled: bool = False
    promise: str | None = None
    loadable: bool = True

    def ordinary(self, promises: Collection[str] = ()) -> bool:
        """Whether the eager recipe loads files with this feature, and every loader that makes these
        promises is to.
        """
        return self.loadable and (self.promise is None or self.promise in promises)
