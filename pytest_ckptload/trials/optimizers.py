"""The facts about an optimizer that was resumed, beside those of its eager twin.

Apart from the pipeline because there is much to see of an optimizer: what it and those inside it
refer to, what its groups say, and its state by the names of parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pytest_ckptload.observe import Observation
from pytest_ckptload.observe.optimizer import (
    groups_of,
    orphans_of,
    settings_of,
    shared_state,
    state_by_name,
)
from pytest_ckptload.rules import Training
from pytest_ckptload.trials.training import names_of_slots

__all__ = ["kept_as_saved", "shared_with", "side_by_side"]


def side_by_side(
    actual: Observation,
    eager: Observation,
    optimizer: Any,
    eager_optimizer: torch.optim.Optimizer,
    payload: Mapping[str, Any],
    exempt: frozenset[str],
) -> Training:
    """The facts about an optimizer that was resumed, before anything is done with it."""
    outer, *inner = groups_of(optimizer)
    eager_groups = groups_of(eager_optimizer)[0]
    names = [names_of_slots(eager, slots) for slots in eager_groups.slots]
    state, eager_state = state_by_name(actual, optimizer), state_by_name(eager, eager_optimizer)
    usual = shared_state(eager, eager_state)
    return Training(
        actual,
        eager,
        outer.slots,
        names,
        state,
        {name: kept for name, kept in eager_state.items() if name not in exempt},
        _saved_state(payload["optimizer"], names),
        settings_of(outer),
        settings_of(eager_groups),
        outer.where,
        {groups.where: groups.slots for groups in inner},
        () if orphans_of(eager_optimizer) else orphans_of(optimizer),
        {
            place: other
            for place, other in shared_state(actual, state).items()
            if place not in usual and place[0] not in exempt
        },
        exempt=exempt,
    )


def _saved_state(
    saved: Mapping[str, Any], names: Sequence[Sequence[str | None]]
) -> dict[str, Mapping[str, object]]:
    """The state in the file by the names of the parameters in its places; of an optimizer whose
    state dict is not as torch has it, none.
    """
    state, groups = saved.get("state"), saved.get("param_groups")
    if not isinstance(state, Mapping) or not isinstance(groups, list):
        return {}
    return {
        name: state[number]
        for group, members in zip(groups, names, strict=False)
        for number, name in zip(group["params"], members, strict=False)
        if name is not None and number in state
    }


def kept_as_saved(training: Training) -> set[str]:
    """The names whose state has the dtypes of the file, where eager loading converts it: their
    steps are others.
    """
    return {
        name
        for name, kept in training.state.items()
        for key, value in training.eager_state.get(name, {}).items()
        if isinstance(value, torch.Tensor)
        and getattr(kept.get(key), "dtype", value.dtype) != value.dtype
    }


def shared_with(first: Observation, optimizer: Any, second: Observation, other: Any) -> Training:
    """What the state of one optimizer has in common with that of another, resumed as it was."""
    state, other_state = state_by_name(first, optimizer), state_by_name(second, other)
    return Training(first, second, [], [], shared=shared_state(first, state, other_state))
