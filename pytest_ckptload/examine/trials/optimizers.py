"""The facts about an optimizer that was resumed, beside those of its eager twin.

Apart from the pipeline because there is much to see of an optimizer: what it and those inside it
refer to, what its groups say, and its state by the names of parameters.
"""

from __future__ import annotations

from pytest_ckptload.examine.trials.continuing import Run, cast_state, expected_state
from pytest_ckptload.examine.trials.saving import SavedRun
from pytest_ckptload.examine.trials.training import names_of_slots
from pytest_ckptload.observe.optimizer import groups_of, settings_of
from pytest_ckptload.observe.state import orphans_of, shared_state, state_by_name
from pytest_ckptload.rules import Training

__all__ = ["shared_with", "side_by_side"]


def side_by_side(actual: Run, eager: Run, saved: SavedRun, exempt: frozenset[str]) -> Training:
    """The facts about an optimizer that was resumed, before anything is done with it."""
    outer, *inner = groups_of(actual.optimizer)
    eager_groups = groups_of(eager.optimizer)[0]
    state, eager_state = (state_by_name(run.module, run.optimizer) for run in (actual, eager))
    usual = shared_state(eager.module, eager_state)
    slots = [names_of_slots(eager.module, slots) for slots in eager_groups.slots]
    cast = cast_state(saved.state or {}, eager.module)
    expected = expected_state(state, eager_state, saved.state, saved.placed(slots), cast)
    return Training(
        actual.module,
        eager.module,
        outer.slots,
        slots,
        state,
        {name: kept for name, kept in expected.items() if name not in exempt},
        saved.state or {},
        settings_of(outer),
        settings_of(eager_groups),
        outer.where,
        {groups.where: groups.slots for groups in inner},
        () if orphans_of(eager.optimizer) else orphans_of(actual.optimizer),
        {
            place: other
            for place, other in shared_state(actual.module, state).items()
            if place not in usual and place[0] not in exempt
        },
        exempt=exempt,
    )


def shared_with(first: Run, second: Run) -> Training:
    """What the state of one optimizer has in common with that of another, resumed as it was."""
    state, other = (state_by_name(run.module, run.optimizer) for run in (first, second))
    shared = shared_state(first.module, state, other)
    return Training(first.module, second.module, [], [], shared=shared)
