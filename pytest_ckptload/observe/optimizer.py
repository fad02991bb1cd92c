"""What an optimizer refers to: its groups, those of optimizers that it wraps, and its state.

Apart from the observers of modules because an optimizer need not be torch's: anything with
``param_groups`` is one, and wrappers and schedulers hold one inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pytest_ckptload.observe.aliasing import overlaps
from pytest_ckptload.observe.module import Observation

__all__ = [
    "Groups",
    "groups_of",
    "optimizers_in",
    "orphans_of",
    "settings_of",
    "shared_state",
    "state_by_name",
]

_CONTAINERS = (list, tuple, dict)


@dataclass(frozen=True)
class Groups:
    """The ``param_groups`` of one optimizer. ``where`` is how they are reached from the object that
    was given: ``"param_groups"``, or ``"optimizer.param_groups"`` of one that is held inside.
    """

    where: str
    groups: list[dict[str, Any]]

    @property
    def slots(self) -> list[list[torch.Tensor]]:
        """The parameters that are referred to, by group."""
        return [list(group["params"]) for group in self.groups]


def groups_of(given: Any) -> list[Groups]:
    """The groups of ``given``, then those of each optimizer that it holds and that refers to other
    tensors. None for what neither is an optimizer nor holds one.

    What has no groups of its own (a scheduler) is looked into as well; where it holds several
    optimizers, their groups are one list. What else has no groups is not looked into.
    """
    found: list[Groups] = []
    layouts: list[list[list[int]]] = []
    optimizers = dict(optimizers_in(given))
    outermost = [p for p in optimizers if not any(p != q and p.startswith(q) for q in optimizers)]
    if len(outermost) > 1:
        together = [group for path in outermost for group in optimizers[path].param_groups]
        return [Groups("param_groups", together)]
    for path, optimizer in optimizers.items():
        groups = Groups(f"{path}param_groups", optimizer.param_groups)
        layout = [[id(parameter) for parameter in slots] for slots in groups.slots]
        if layout not in layouts:
            layouts.append(layout)
            found.append(groups)
    return found


def optimizers_in(given: Any) -> Iterator[tuple[str, Any]]:
    """What is given, where it is an optimizer, and the optimizers that it holds, each behind the
    path that leads to it: ``"optimizer."``.
    """
    return _optimizers(given, "", set())


def _optimizers(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(getattr(value, "param_groups", None), list):
        yield path, value
    elif path:
        return
    for name, inside in getattr(value, "__dict__", {}).items():
        for key, item in _items(name, inside):
            yield from _optimizers(item, f"{path}{key}.", seen)


def _items(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if type(value) not in _CONTAINERS:
        yield name, value
        return
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    yield from ((f"{name}[{key!r}]", item) for key, item in pairs)


def settings_of(groups: Groups) -> list[dict[str, object]]:
    """What each group says of its parameters, but for which they are."""
    named = ("params", "param_names")
    return [{k: v for k, v in group.items() if k not in named} for group in groups.groups]


def state_by_name(observation: Observation, optimizer: Any) -> dict[str, dict[str, object]]:
    """The state that is kept for the module's parameters, by their first names."""
    names = {
        id(place.tensor): observation.groups[name][0] for name, place in observation.places.items()
    }
    return {
        names[id(key)]: dict(state)
        for key, state in _state_of(optimizer)
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
    keys = (key for key, _ in _state_of(optimizer))
    return [key for key in keys if isinstance(key, torch.Tensor) and id(key) not in held]


def _state_of(optimizer: Any) -> Iterator[tuple[Any, Any]]:
    """The state of the outermost optimizer that keeps any, by what it is kept for."""
    for _, held in optimizers_in(optimizer):
        state = getattr(held, "state", None)
        if isinstance(state, Mapping):
            yield from list(state.items())
            return


def shared_state(
    observation: Observation,
    state: Mapping[str, Mapping[str, object]],
    other: Mapping[str, Mapping[str, object]] | None = None,
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


def _tensors(
    state: Mapping[str, Mapping[str, object]],
) -> Iterator[tuple[str, str, torch.Tensor]]:
    for name, kept in state.items():
        for key, value in kept.items():
            for path, item in _items(str(key), value):
                if isinstance(item, torch.Tensor):
                    yield name, path, item
