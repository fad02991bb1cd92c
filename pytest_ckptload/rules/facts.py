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
from pytest_ckptload.observe.tensors import plain, same_bits, same_but_nan

__all__ = ["Attempt", "Comparison", "FileFacts", "Reference", "Training", "same_entry"]


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
        """The places (loaded, eager) that both modules have and that hold data."""
        pairs = []
        for name, eager in self.reference.eager.places.items():
            place = self.actual.places.get(name)
            if place is not None and name not in self.on_meta:
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
        module that loads with code of its own decides by that code, and so does one of two tensors
        that overlap by construction: there the eager module says the values.
        """
        eager, values = self.reference.eager, self.reference.values
        woven = {name for pair in eager.overlaps for name in pair}
        sources = {}
        for name, group in eager.groups.items():
            if group[0] in woven or name.rpartition(".")[0] in self._customised:
                continue
            if name in values:
                sources[name] = name
            elif present := [other for other in group if other in values]:
                sources[name] = present[0]
        return sources

    @cached_property
    def _customised(self) -> frozenset[str]:
        """The paths at or below modules that load with code of their own."""
        tops = tuple(self.reference.eager.customised)
        paths = {name.rpartition(".")[0] for name in self.reference.eager.places}
        return frozenset(path for path in paths if tops and f"{path}.".startswith(tops))

    @cached_property
    def unjudged(self) -> frozenset[str]:
        """The names that have no value anywhere: missing from the file, and not tied to any in
        it.
        """
        return frozenset(name for name in self.reference.missing if name not in self.sources)

    def built(self, name: str) -> torch.Tensor | None:
        """The tensor that construction gives, before anything is loaded."""
        if self.reference.initial is None:
            return None
        place = self.reference.initial().places.get(name)
        return None if place is None else place.tensor

    def tied(self, name: str) -> bool:
        """Whether the loaded module has ``name`` tied to all that the eager module ties it to."""
        wanted = set(self.reference.eager.groups[name])
        return wanted <= set(self.actual.groups[name])

    def differ_in_file(self, group: tuple[str, ...]) -> bool:
        """Whether the names of a tied group hold different values in the file."""
        values = self.reference.values
        held = [values[name] for name in group if name in values]
        return any(not same_entry(held[0], other) for other in held[1:])

    def expected(self, place: Place, eager: Place) -> list[tuple[torch.Tensor, bool]]:
        """The values that ``place`` may have, in its own dtype, and whether each was converted.

        Empty where any value will do.
        """
        name = place.name
        if name in self.unjudged:
            return []
        if name not in self.sources:
            origins = [eager.tensor]
            built = self.built(name)
            if self.reference.dtype is not None and built is not None:
                # The eager module was cast as a whole; a loader may leave what the file lacks.
                origins.append(built)
        else:
            origins = [self.reference.values[self.sources[name]]]
            group = self.reference.eager.groups[name]
            if len(group) > 1 and self.tied(name):
                origins += [
                    self.reference.values[other]
                    for other in group
                    if other in self.reference.values and other != self.sources[name]
                ]
        if any(origin.is_meta for origin in origins):
            return []
        dtype = place.tensor.dtype
        candidates = [_converted(origin, dtype) for origin in origins]
        module_dtype = eager.tensor.dtype
        if self.reference.dtype is not None and module_dtype != dtype:
            # A loader that was asked to cast may go by way of the module's dtype.
            candidates += [
                (_converted(_converted(origin, module_dtype)[0], dtype)[0], True)
                for origin in origins
            ]
        shape = place.tensor.shape
        return [
            (tensor.reshape(shape), converted)
            for tensor, converted in candidates
            if tensor.numel() == shape.numel()
        ]

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
                wrong[place.name] = (place, candidates[0][0])
        return wrong


@dataclass
class Attempt:
    """How a load ended, where that alone is to be judged.

    ``expect`` is ``"load"`` where the eager recipe loads, ``"mismatch"`` where names are missing
    from the file or too many, ``"damage"`` where the file was damaged, ``"refusal"`` where the
    eager recipe refuses for a reason of its own. ``refusable`` says why refusing is right all the
    same.
    """

    expect: str
    promises: frozenset[str]
    error: BaseException | None = None
    returned: str | None = None
    details: str = ""
    refusable: str | None = None


@dataclass
class FileFacts:
    """What became of the file: its bytes (or what stands for them) at three times."""

    written: object
    loaded: object
    trained: object


@dataclass
class Training:
    """An optimizer beside the module it belongs to, and the same for the reference.

    ``slots`` are the parameters the optimizer refers to, by group. ``state`` and ``eager_state``
    are the optimizer's state by parameter name; ``steps`` the names whose bytes differ after a step
    from those of the reference, with both tensors. ``exempt`` names differ already for another
    reason.
    """

    actual: Observation
    eager: Observation
    slots: list[list[torch.Tensor]]
    eager_slots: list[list[str]]
    state: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    eager_state: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    steps: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    error: str | None = None
    exempt: frozenset[str] = frozenset()


def same_entry(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two entries of a file are the same, dtype and shape included."""
    if left is right:
        return True
    return left.dtype == right.dtype and left.shape == right.shape and same_bits(left, right)


def _converted(tensor: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, bool]:
    tensor = plain(tensor)
    if tensor.dtype == dtype:
        return tensor, False
    return tensor.to(dtype), True
