"""What an optimizer refers to: its groups, and those of optimizers that it wraps.

Apart from the observers of modules because an optimizer need not be torch's: anything with
``param_groups`` is one, and wrappers and schedulers hold one inside. What it keeps is in ``state``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Groups", "groups_of", "optimizers_in", "settings_of"]

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
