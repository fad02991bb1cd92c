"""The state of an optimizer, by the names of the parameters that it is of, and where two differ.

Apart from the objects that a module carries because here it is to be said what differs, and how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from pytest_ckptload.observe.module import Observation
from pytest_ckptload.observe.objects import alike
from pytest_ckptload.observe.tensors import first_difference, same_bits

__all__ = ["State", "saved_state", "state_by_name", "tensors_in", "unlike"]

State = Mapping[str, Mapping[str, object]]
"""What an optimizer keeps of each parameter, by its first name."""


def state_by_name(observation: Observation, optimizer: Any) -> dict[str, dict[str, object]]:
    """The state that an optimizer has of the tensors of this module."""
    names = {
        id(place.tensor): observation.groups[name][0] for name, place in observation.places.items()
    }
    return {
        names[id(parameter)]: dict(state)
        for parameter, state in optimizer.state.items()
        if id(parameter) in names
    }


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
