"""What an optimizer keeps: its state, by the names of the parameters that it is of; where two of
them differ, and what they have in common.

Apart from what it refers to because a file holds a state as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from pytest_ckptload.observe.aliasing import overlaps
from pytest_ckptload.observe.module import Observation
from pytest_ckptload.observe.objects import alike
from pytest_ckptload.observe.optimizer import groups_of, optimizers_in
from pytest_ckptload.observe.tensors import first_difference, same_bits

__all__ = [
    "State",
    "orphans_of",
    "saved_state",
    "shared_state",
    "state_by_name",
    "state_of",
    "tensors_in",
    "unlike",
]

State = Mapping[str, Mapping[str, object]]
"""What an optimizer keeps of each parameter, by its first name."""


def state_of(optimizer: Any) -> Any:
    """The state of the outermost optimizer that keeps any, by what it is kept for."""
    states = (getattr(held, "state", None) for _, held in optimizers_in(optimizer))
    return next((state for state in states if isinstance(state, Mapping)), {})


def state_by_name(observation: Observation, optimizer: Any) -> dict[str, dict[str, object]]:
    """The state that is kept for the module's tensors, by their first names."""
    names = {
        id(place.tensor): observation.groups[name][0] for name, place in observation.places.items()
    }
    return {
        names[id(key)]: dict(state)
        for key, state in state_of(optimizer).items()
        if id(key) in names and isinstance(state, Mapping)
    }


def orphans_of(optimizer: Any) -> list[torch.Tensor]:
    """The tensors that state is kept for and that no group has."""
    held = {
        id(parameter)
        for groups in groups_of(optimizer)
        for slots in groups.slots
        for parameter in slots
    }
    keys = state_of(optimizer)
    return [key for key in keys if isinstance(key, torch.Tensor) and id(key) not in held]


def saved_state(saved: Any, slots: Sequence[Sequence[str | None]]) -> State | None:
    """The state in an optimizer's state dict, where ``slots`` are the names of what it held by
    group; ``None`` where it is not laid out as torch's are.
    """
    try:
        groups = [group["params"] for group in saved["param_groups"]]
        keys = {
            key: name
            for group, names in zip(groups, slots, strict=True)
            for key, name in zip(group, names, strict=True)
        }
        return {
            name: dict(state)
            for key, state in saved["state"].items()
            if (name := keys.get(key)) is not None
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def tensors_in(value: object) -> Iterator[torch.Tensor]:
    """The tensors that a value of the state is, or holds in lists and dicts, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def unlike(actual: object, expected: object) -> str | None:
    """How a value of the state is not the expected one, in words; ``None`` where every bit is."""
    if isinstance(expected, torch.Tensor) and isinstance(actual, torch.Tensor):
        if actual.is_meta and not expected.is_meta:
            return "a tensor on meta, which holds nothing"
        if actual.dtype != expected.dtype or actual.shape != expected.shape:
            wanted = f"{expected.dtype} {tuple(expected.shape)}"
            return f"{actual.dtype} {tuple(actual.shape)}, expected {wanted}"
        return None if same_bits(actual, expected) else str(first_difference(actual, expected))
    if alike(actual, expected):
        return None
    for left, right in _pairs(actual, expected):
        if (difference := unlike(left, right)) is not None:
            return difference
    return f"{actual!r}, expected {expected!r}"


def _pairs(actual: object, expected: object) -> Iterator[tuple[object, object]]:
    """What two containers of one kind and size hold, side by side."""
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if actual.keys() == expected.keys():
            yield from ((actual[key], expected[key]) for key in expected)
        return
    if not isinstance(actual, list | tuple) or not isinstance(expected, list | tuple):
        return
    if len(actual) == len(expected):
        yield from zip(actual, expected, strict=True)


def shared_state(
    observation: Observation, state: State, other: State | None = None
) -> dict[tuple[str, str], str]:
    """The tensors of a state, by name and key, that have memory in common with others of it or of
    the module; each with the first such, in words. With ``other``, another optimizer's state, those
    that have some in common with that.
    """
    tensors: dict[str, torch.Tensor] = {}
    owners: dict[str, tuple[str, str]] = {}
    for number, (name, key, tensor) in enumerate(_tensors(state)):
        tensors[f"{number}"], owners[f"{number}"] = tensor, (name, key)
    rest: dict[str, str] = {}
    if other is None:
        for name, *_ in observation.groups.values():
            tensors[f"of {name}"], rest[f"of {name}"] = observation.places[name].tensor, name
    else:
        for number, (name, key, tensor) in enumerate(_tensors(other)):
            tensors[f"other {number}"] = tensor
            rest[f"other {number}"] = f"{key} of {name} in another optimizer"
    shared: dict[tuple[str, str], str] = {}
    for overlap in overlaps(tensors).values():
        left, right = sorted(overlap.names, key=lambda label: label not in owners)
        if right in rest and left in owners:
            shared.setdefault(owners[left], rest[right])
        elif left in owners and right in owners and other is None:
            first, second = sorted((left, right), key=int)
            name, key = owners[first]
            shared.setdefault(owners[second], f"{key} of {name}")
    return shared


def _tensors(state: State) -> Iterator[tuple[str, str, torch.Tensor]]:
    for name, kept in state.items():
        for key, value in kept.items():
            yield from ((name, str(key), tensor) for tensor in tensors_in(value))
