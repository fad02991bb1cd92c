"""The facts that rules judge: what a loader gave, and what it should have given.

Apart from the rules because several of them ask the same questions of the same facts: which values
a tensor may have, which names were settled already. The answers are worked out once, and only when
asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from pytest_ckptload.observe import Observation, Place
from pytest_ckptload.observe.tensors import plain, same_bits, same_but_nan, same_tensor

__all__ = [
    "Aftermath",
    "Attempt",
    "Behaviour",
    "Comparison",
    "FileFacts",
    "Lifetime",
    "Reference",
    "SecondLoad",
    "Training",
    "as_built",
]


@dataclass
class Reference:
    """What a loaded module is held against: two sources of truth.

    ``values`` is the checkpoint, by name: it says which values. ``eager`` is the module that eager
    loading gives: it says everything else. ``missing`` are names the module has and the file lacks.
    ``dtype`` is the one the loader was asked to cast floating tensors to. ``initial`` gives the
    module as construction leaves it, and is asked only where there is something to explain.
    """

    eager: Observation
    values: Mapping[str, torch.Tensor]
    missing: frozenset[str] = frozenset()
    initial: Callable[[], Observation] | None = None
    semantics: str | None = None
    dtype: torch.dtype | None = None


@dataclass
class Comparison:
    """A loaded module beside its reference."""

    actual: Observation
    reference: Reference

    @cached_property
    def shared(self) -> list[tuple[Place, Place]]:
        """The places (loaded, eager) that both modules have and that hold data, in both."""
        pairs = []
        for name, eager in self.reference.eager.places.items():
            place = self.actual.places.get(name)
            if place is None or place.lazy or eager.lazy:
                continue
            if name not in self.on_meta:
                pairs.append((place, eager))
        return pairs

    @cached_property
    def on_meta(self) -> frozenset[str]:
        """The names that the loaded module still has on the meta device."""
        eager = self.reference.eager.places
        return frozenset(
            name
            for name, place in self.actual.places.items()
            if place.tensor.is_meta and not (name in eager and eager[name].tensor.is_meta)
        )

    @cached_property
    def sources(self) -> dict[str, str]:
        """For each name whose value the file decides: the name it has there.

        An attribute or an unsaved name that is the very tensor of a saved one follows that one. A
        module that loads with code of its own decides by that code: the eager module has the
            result.
        """
        eager, values = self.reference.eager, self.reference.values
        sources = {}
        for name, group in eager.groups.items():
            if name in self.customised:
                continue
            if name in values:
                sources[name] = name
            elif present := [other for other in group if other in values]:
                sources[name] = present[0]
        return sources

    @cached_property
    def customised(self) -> frozenset[str]:
        """The names in or below modules that load with code of their own."""
        tops = tuple(self.reference.eager.customised)
        return frozenset(
            name for name in self.reference.eager.places if tops and name.startswith(tops)
        )

    @cached_property
    def woven(self) -> frozenset[str]:
        """The names of tensors that overlap another by construction."""
        groups = self.reference.eager.groups
        firsts = {name for pair in self.reference.eager.overlaps for name in pair}
        return frozenset(name for name, group in groups.items() if group[0] in firsts)

    @cached_property
    def unjudged(self) -> frozenset[str]:
        """The names without a value anywhere: missing from the file, or tied to none but such."""
        groups = self.reference.eager.groups
        return frozenset(
            name
            for missing in self.reference.missing
            for name in groups.get(missing, (missing,))
            if name not in self.sources
        )

    def built(self, name: str) -> torch.Tensor | None:
        """The tensor that construction gives, before anything is loaded."""
        if self.reference.initial is None:
            return None
        place = self.reference.initial().places.get(name)
        return None if place is None else place.tensor

    def _same_as_eager(self, place: Place, eager: Place) -> bool:
        """Whether the values are the eager module's, in its dtype: of what is loaded by own code
        nothing more exact is known.
        """
        return _same_in_dtype(place.tensor, eager.tensor)

    def tied(self, name: str) -> bool:
        """Whether the loaded module has ``name`` tied to all that the eager module ties it to."""
        wanted = set(self.reference.eager.groups[name])
        return wanted <= set(self.actual.groups[name])

    def differ_in_file(self, group: tuple[str, ...]) -> bool:
        """Whether the names of a tied group hold different values in the file."""
        values = self.reference.values
        held = [values[name] for name in group if name in values]
        return any(not same_tensor(held[0], other) for other in held[1:])

    def torn_in_file(self, names: tuple[str, str]) -> bool:
        """Whether two tensors that overlap by construction contradict each other in the file: then
        eager copying, one after the other, cannot keep the values of both.
        """
        eager, values = self.reference.eager.places, self.reference.values
        return any(
            name in values
            and name not in self.customised
            and not _same_in_dtype(values[name], eager[name].tensor)
            for name in names
        )

    def expected(self, place: Place, eager: Place) -> list[tuple[torch.Tensor, bool]]:
        """The values that ``place`` may have, in its own dtype, and whether each was converted.

        Empty where any value will do, and where torch knows no conversion to that dtype.
        """
        origins = self._origins(place.name, eager)
        if any(origin.is_meta for origin in origins):
            return []
        dtype = place.tensor.dtype
        candidates = [(_converted(origin, dtype), origin.dtype != dtype) for origin in origins]
        built = self.built(place.name) if self.reference.dtype is not None else None
        if built is not None and built.dtype != dtype:
            # A loader that was asked to cast may go by way of the module's own dtype.
            halfway = [_converted(origin, built.dtype) for origin in origins]
            candidates += [(_converted(t, dtype), True) for t in halfway if t is not None]
        shape = place.tensor.shape
        return [
            (tensor.reshape(shape), converted)
            for tensor, converted in candidates
            if tensor is not None and tensor.numel() == shape.numel()
        ]

    def _origins(self, name: str, eager: Place) -> list[torch.Tensor]:
        """The tensors whose values ``name`` may have, likeliest first."""
        values, group = self.reference.values, self.reference.eager.groups[name]
        if name in self.unjudged:
            return []
        if name in self.sources:
            origins = [values[self.sources[name]]]
            if len(group) > 1 and self.tied(name):
                origins += [values[n] for n in group if n in values and n != self.sources[name]]
            if self._untied_by_a_cast(name):
                origins.append(eager.tensor)
            # What overlaps another and has contents of its own in the file ends as copying has it,
            # or with its own.
            return [*origins, eager.tensor] if name in self.woven else origins
        built = self.built(name)
        if self.reference.dtype is not None and built is not None:
            # The eager module was cast as a whole; a loader may leave what the file lacks.
            return [eager.tensor, built]
        return [eager.tensor]

    def _untied_by_a_cast(self, name: str) -> bool:
        """Whether construction ties the name to others, and the eager module, cast as a whole, does
        not: `Module.to` gives each buffer a tensor of its own.
        """
        if self.reference.dtype is None or self.reference.initial is None:
            return False
        tied = self.reference.initial().groups.get(name, ())
        return len(tied) > len(self.reference.eager.groups[name])

    @cached_property
    def wrong(self) -> dict[str, tuple[Place, torch.Tensor]]:
        """The names whose values are none of those expected, with the likeliest expected one."""
        wrong = {}
        for place, eager in self.shared:
            if place.tensor.shape != eager.tensor.shape:
                continue
            candidates = self.expected(place, eager)
            if candidates and not any(
                (same_but_nan if converted else same_bits)(place.tensor, tensor)
                for tensor, converted in candidates
            ):
                if place.name in self.customised and self._same_as_eager(place, eager):
                    continue
                wrong[place.name] = (place, candidates[0][0])
        return wrong


@dataclass
class Attempt:
    """How a load ended, where that alone is to be judged.

    ``expect`` is ``"load"`` where the eager recipe loads, ``"mismatch"`` where names are missing
    from the file or too many, ``"shapes"`` where shapes are others than the module's, ``"damage"``
    where the file was damaged, ``"refusal"`` where the eager recipe refuses for a reason of its
    own. ``refusable`` says why refusing is right all the same. ``executed`` says which code ran
    that the file brought along, ``climbed`` are the files that were written to where names in it
    point, out of the folder that they belong to. ``mismatched`` are the names that are missing or
    too many.
    """

    expect: str
    promises: frozenset[str]
    error: BaseException | None = None
    returned: str | None = None
    details: str = ""
    refusable: str | None = None
    executed: str | None = None
    climbed: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()


@dataclass
class Aftermath:
    """What a load leaves behind, besides the module.

    ``settings`` are those of torch's globals that it changed, by name, as they were and as they
    are. ``random`` says that torch's generators go on with other numbers than after the eager load.
    ``added``, ``removed`` and ``altered`` are the files beside the checkpoint that are new, gone or
    written to, ``opened`` says that the checkpoint is still open, and under which name.
    """

    settings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    random: bool = False
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    promises: frozenset[str] = frozenset()


@dataclass
class FileFacts:
    """What became of the file: its bytes (or what stands for them) at three times."""

    written: object
    loaded: object
    trained: object


@dataclass
class Lifetime:
    """What became of a loaded module in the event that its file was ``"deleted and replaced"``,
    ``"saved over"`` or ``"truncated"``: the names whose values changed, or what reading them ended
    in.
    """

    event: str
    changed: tuple[str, ...] = ()
    error: str | None = None


@dataclass
class SecondLoad:
    """What the same loader gave when it was called again.

    ``shared`` are the pairs of names, of the first module and of the second, that have memory in
    common; ``stale`` the names that have the values of a file which was replaced in between, or
    ``error`` what that load raised.
    """

    shared: tuple[tuple[str, str], ...] = ()
    stale: tuple[str, ...] = ()
    error: str | None = None


@dataclass
class Behaviour:
    """How the outputs and gradients of two modules differ that were called with the same: for each
    submodule by path, and each parameter by name, in words.
    """

    outputs: Mapping[str, str] = field(default_factory=dict)
    gradients: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Training:
    """An optimizer beside the module it belongs to, and the same for the reference.

    ``slots`` are the parameters the optimizer refers to, by group, ``eager_slots`` the names of
    those that the eager one refers to, ``None`` for one from outside the module. ``state`` and
    ``eager_state`` are the optimizer's state by parameter name; ``steps`` the names whose bytes
    differ after a step from those of the reference, with both tensors. ``exempt`` names differ
    already for another reason.
    """

    actual: Observation
    eager: Observation
    slots: list[list[torch.Tensor]]
    eager_slots: list[list[str | None]]
    state: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    eager_state: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    steps: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    error: str | None = None
    exempt: frozenset[str] = frozenset()


def as_built(place: Place, built: Place) -> bool:
    """Whether a loaded tensor is as construction gave it, cast to its own dtype at most."""
    if place.kind != built.kind or place.tensor.shape != built.tensor.shape:
        return False
    if place.tensor.is_meta or built.tensor.is_meta:
        return place.tensor.is_meta and built.tensor.is_meta
    return _same_in_dtype(built.tensor, place.tensor)


def _converted(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
    """The plain values in a dtype, or ``None`` where torch refuses that conversion."""
    if tensor.dtype == dtype:
        return plain(tensor)
    try:
        return plain(tensor).to(dtype)
    except RuntimeError:
        return None


def _same_in_dtype(tensor: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether the values are the expected ones, once they have their dtype."""
    converted = _converted(tensor, expected.dtype)
    return converted is not None and same_but_nan(converted, plain(expected))
