"""Training that goes on after a resume, on the resumed module and on the eager one, side by side.

Apart from ``training``, which makes optimizers of its own, because here the ones that were resumed
are stepped: they are held against a twin that has the state which the resumer is right to have.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch

from pytest_ckptload.examine.trials.stepping import take_step
from pytest_ckptload.examine.trials.training import unlike_after
from pytest_ckptload.observe import Observation
from pytest_ckptload.observe.state import State, state_by_name, state_of, tensors_in, unlike
from pytest_ckptload.printable import described
from pytest_ckptload.rules import Training

__all__ = ["Run", "cast_state", "expected_state", "go_on", "is_of_others", "put_state"]

# After so many steps the two are compared.
_COMPARED = (1, 2, 5)


@dataclass
class Run:
    """A module in training, with its optimizer, and its scheduler where there is one."""

    module: Observation
    optimizer: Any
    scheduler: Any = None

    def step(self, number: int) -> float:
        """Take a step; the answer is the loss before it."""
        loss = take_step(self.optimizer, self.module, number)
        if self.scheduler is not None:
            self.scheduler.step()
        return loss


def expected_state(
    actual: State,
    eager: State,
    saved: State | None,
    placed: State | None = None,
    cast: State | None = None,
) -> State:
    """What a resumer is right to have as state: what the eager optimizer made of the file's, or the
    file's own, be it by name, as it is or ``cast``, or, as ``placed``, by position; one value after
    the other.
    """
    if saved is None:
        return eager
    files = placed or {}, cast or {}, saved
    expected: dict[str, dict[str, object]] = {}
    for name, state in eager.items():
        own = actual.get(name, {})
        if own or name in saved:
            expected[name] = dict(state)
            for file in files:
                expected[name] |= _kept(own, state, file.get(name, {}))
                if own.keys() != state.keys() and unlike(own, file.get(name)) is None:
                    expected[name] = dict(own)  # and nothing of another parameter's
    for name in [name for name in actual if name in saved and name not in eager]:
        for file in files[1:]:
            kept = _kept(actual[name], {}, file.get(name, {}))
            if kept.keys() == saved[name].keys():
                expected[name] = kept
    return expected


def cast_state(saved: State, module: Observation) -> State:
    """The file's state as torch casts it to the dtype of each parameter, but for counts."""
    return {
        name: {
            key: value.to(module.places[name].tensor.dtype)
            if key != "step" and _floating(value, module.places[name].tensor)
            else value
            for key, value in state.items()
        }
        for name, state in saved.items()
        if name in module.places
    }


def _floating(value: object, parameter: torch.Tensor) -> TypeGuard[torch.Tensor]:
    return isinstance(value, torch.Tensor) and parameter.is_floating_point()


def _kept(
    actual: Mapping[str, object], eager: Mapping[str, object], saved: Mapping[str, object]
) -> dict[str, object]:
    """The values that are the file's, and not what the eager optimizer made of them, where that
    one has them.
    """
    return {
        key: actual[key]
        for key, value in saved.items()
        if key in actual
        and (key not in eager or _is_other(actual[key], eager[key]))
        and unlike(actual[key], value) is None
    }


def _is_other(actual: object, eager: object) -> bool:
    """Whether a value is not the eager optimizer's, and on no device that that one is not on."""
    here, there = ({tensor.device for tensor in tensors_in(value)} for value in (actual, eager))
    return here <= there and unlike(actual, eager) is not None


def put_state(run: Run, state: State, exempt: frozenset[str] = frozenset()) -> None:
    """Have the optimizer go on from this state, in memory of its own, but for ``exempt`` names."""
    own, held = state_by_name(run.module, run.optimizer), state_of(run.optimizer)
    for name in (own.keys() | state.keys()) - exempt:
        kept = held.setdefault(run.module.places[name].tensor, {})
        for key in kept.keys() - state.get(name, {}).keys():
            del kept[key]
        for key, value in state.get(name, {}).items():
            if value is not kept.get(key):
                kept[key] = copy.deepcopy(value)


def is_of_others(run: Run, saved: State | None) -> bool:
    """Whether parameters have state that cannot be theirs: of another's shape, or where none was
    saved. To step with it is not only wrong: fused steps leave their memory.
    """
    if saved is None:
        return False
    return any(
        name not in saved or _shapes_differ(value, saved[name].get(key, value))
        for name, kept in state_by_name(run.module, run.optimizer).items()
        for key, value in kept.items()
    )


def _shapes_differ(value: object, saved: object) -> bool:
    pairs = zip(tensors_in(value), tensors_in(saved), strict=False)
    return any(one.shape != other.shape for one, other in pairs)


def go_on(actual: Run, eager: Run, first: int, exempt: frozenset[str] = frozenset()) -> Training:
    """Train both from step number ``first`` on, until they differ.

    Where the eager optimizer itself cannot step, there is nothing to be held against.
    """
    training = Training(actual.module, eager.module, [], [], exempt=exempt)
    for number in range(1, max(_COMPARED) + 1):
        try:
            wanted = eager.step(first + number - 1)
        except Exception:
            return training  # torch's own, whoever loads
        training.after = number
        try:
            loss = actual.step(first + number - 1)
        except Exception as error:
            training.error = described(error)
            return training
        if number not in _COMPARED:
            continue
        training.steps = unlike_after(actual.module, eager.module, exempt)
        training.others = list(_others(actual, eager, exempt))
        if not exempt and loss.hex() != wanted.hex():
            training.others.append(("", "the loss", f"{loss!r}, expected {wanted!r}"))
        if training.steps or training.others:
            return training
    return training


def _others(actual: Run, eager: Run, exempt: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """What differs besides the module: state, learning rates, and what the scheduler knows."""
    mine, theirs = (state_by_name(run.module, run.optimizer) for run in (actual, eager))
    for name, state in theirs.items():
        own = mine.get(name, {})
        yield from () if name in exempt else _unequal(name, "{}", own, state)
    groups = zip(actual.optimizer.param_groups, eager.optimizer.param_groups, strict=False)
    for number, (group, other) in enumerate(groups):
        rates = {"lr": other["lr"]} if "lr" in other else {}
        yield from _unequal("", f"param_groups[{number}]['{{}}']", group, rates)
    if eager.scheduler is not None:
        known, wanted = (run.scheduler.state_dict() for run in (actual, eager))
        yield from _unequal("", "the scheduler's {}", known, wanted)


def _unequal(
    name: str, place: str, actual: Mapping[str, object], expected: Mapping[str, object]
) -> Iterator[tuple[str, str, str]]:
    for key, value in expected.items():
        if (difference := unlike(actual.get(key), value)) is not None:
            yield name, place.format(key), difference
