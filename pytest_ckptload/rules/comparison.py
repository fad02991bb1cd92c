"""A loaded module beside its reference: the facts that most rules judge.

Apart from the other facts because these are worked out, once and only when asked: which values a
tensor may have, which names were settled already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from pytest_ckptload.observe import Observation, Place
from pytest_ckptload.observe.tensors import plain, same_bits, same_but_nan, same_tensor

__all__ = ["Comparison", "Reference", "as_built", "same_in_dtype"]


@dataclass
class Reference:
    """What a loaded module is held against: two sources of truth.

    ``values`` is the checkpoint, by name: it says which values. ``eager`` is the module that eager
    loading gives: it says everything else. ``missing`` are names the module has and the file lacks.
    ``dtype`` is the one the loader was asked to cast floating tensors to. ``initial`` gives the
    module as construction leaves it, and is asked only where there is something to explain.
    ``translated`` are names for which the eager module has the values, whatever the file calls
    them.
    """

    eager: Observation
    values: Mapping[str, torch.Tensor]
    missing: frozenset[str] = frozenset()
    initial: Callable[[], Observation] | None = None
    semantics: str | None = None
    dtype: torch.dtype | None = None
    translated: frozenset[str] = frozenset()


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
    def uncast(self) -> tuple[Observation, ...]:
        """The modules that say what construction ties, and what it makes views: the eager one, and
        where that was cast as a whole the one before. `Module.to` takes views and tied buffers
        apart, if it has anything to do.
        """
        eager, initial = self.reference.eager, self.reference.initial
        if self.reference.dtype is None or initial is None:
            return (eager,)
        return eager, initial()

    @cached_property
    def woven(self) -> frozenset[str]:
        """The names of tensors that overlap another by construction."""
        return frozenset(
            name
            for module in self.uncast
            for pair in module.overlaps
            for first in pair
            for name in module.groups[first]
        )

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
        return same_in_dtype(place.tensor, eager.tensor)

    def tied(self, name: str) -> bool:
        """Whether the loaded module has ``name`` tied to all that the eager module ties it to."""
        wanted = set(self.reference.eager.groups[name])
        return wanted <= set(self.actual.groups[name])

    def moved(self, name: str) -> bool:
        """Whether ``Module.to`` may have moved the tensor to where it is: it gives each buffer, and
        each view, a tensor of its own, and brings the values that the CPU computed.
        """
        return self.reference.eager.places[name].tensor.device.type not in ("cpu", "meta")

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
            and not same_in_dtype(values[name], eager[name].tensor)
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
        either_way = self.reference.dtype is not None or self.moved(name)
        built = self.built(name) if either_way and name not in values else None
        if name in self.sources:
            origins = [values[self.sources[name]]]
            if len(group) > 1 and (self.tied(name) or self.moved(name)):
                origins += [values[n] for n in group if n in values and n != self.sources[name]]
            if self._untied_by_a_cast(name):
                origins.append(eager.tensor)
            if built is not None and self.moved(name):
                origins.append(built)
            # What overlaps another and has contents of its own in the file ends as copying has it,
            # in whatever order, or with its own.
            if name in self.woven:
                origins += [eager.tensor, *self._overwritten(name)]
            return origins
        # The eager module was cast, or made on its device, as a whole; a loader may leave what the
        # file lacks.
        return [eager.tensor] if built is None else [eager.tensor, built]

    def _overwritten(self, name: str) -> Iterator[torch.Tensor]:
        """What the name has where the contents of another that overlaps it are copied last."""
        values, eager = self.reference.values, self.reference.eager
        first, own = eager.groups[name][0], eager.places[name].tensor
        for overlap in eager.overlaps.values():
            if first not in overlap.names or not self.torn_in_file(overlap.names):
                continue
            one, two = overlap.names
            other = two if one == first else one
            copied = {name: self.sources.get(name), other: self.sources.get(other)}
            tensors = [eager.places[n].tensor for n in copied]
            contents = [values[source] for source in copied.values() if source is not None]
            if [t.shape for t in tensors] == [t.shape for t in contents]:
                storage = own.untyped_storage().clone()  # type: ignore[no-untyped-call]
                places = [_seen_through(tensor, storage) for tensor in tensors]
                for place, content in zip(places, contents, strict=True):
                    place.copy_(content)
                yield places[0]

    def _untied_by_a_cast(self, name: str) -> bool:
        """Whether construction ties the name to others, and the eager module, cast as a whole, does
        not: `Module.to` gives each buffer a tensor of its own.
        """
        tied = len(self.reference.eager.groups[name])
        return any(len(module.groups.get(name, ())) > tied for module in self.uncast)

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


def as_built(place: Place, built: Place) -> bool:
    """Whether a loaded tensor is as construction gave it, cast to its own dtype at most."""
    if place.kind != built.kind or place.tensor.shape != built.tensor.shape:
        return False
    if place.tensor.is_meta or built.tensor.is_meta:
        return place.tensor.is_meta and built.tensor.is_meta
    return same_in_dtype(built.tensor, place.tensor)


def _seen_through(tensor: torch.Tensor, storage: torch.UntypedStorage) -> torch.Tensor:
    """The same place in another storage."""
    place = tensor.storage_offset(), tensor.shape, tensor.stride()
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(storage, *place)


def _converted(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
    """The plain values in a dtype, or ``None`` where torch refuses that conversion."""
    if tensor.dtype == dtype:
        return plain(tensor)
    try:
        return plain(tensor).to(dtype)
    except RuntimeError:
        return None


def same_in_dtype(tensor: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether the values are the expected ones, once they have their dtype."""
    converted = _converted(tensor, expected.dtype)
    return converted is not None and same_but_nan(converted, plain(expected))
