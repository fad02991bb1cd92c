"""CKPT505 to CKPT509: what optimizers know is what the file says, and their steps are right.

Apart from what optimizers refer to, which is in ``optimizers.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pytest_ckptload.observe.tensors import first_difference, same_bits
from pytest_ckptload.rules.facts import Training
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []


@rule(
    "CKPT505",
    "state-not-restored",
    Training,
    statement="The optimizer's state is the file's, bit for bit.",
    explanation="Moments and step counts decide every step to come.",
    cause="The state was not loaded, was matched to other parameters, or was converted.",
    fix="Call `optimizer.load_state_dict(payload['optimizer'])` once the parameters are live.",
    references=("pytorch/pytorch#43706", "pytorch/pytorch#1489"),
)
def state_not_restored(t: Training) -> Iterator[Broken]:
    for name, expected in t.eager_state.items():
        actual = t.state.get(name)
        if actual is None:
            yield Broken(name, f"no state, expected {', '.join(sorted(expected))}")
            continue
        for key, value in expected.items():
            saved = t.saved_state.get(name, {}).get(key)
            wanted = saved if _is_as_saved(actual.get(key), saved) else value
            if (difference := _unlike(actual.get(key), wanted)) is not None:
                yield Broken(f"{name} {key}", difference, (name,))


def _is_as_saved(actual: object, saved: object) -> bool:
    """Whether a tensor has the dtype that it has in the file."""
    both = isinstance(actual, torch.Tensor) and isinstance(saved, torch.Tensor)
    return both and actual.dtype == saved.dtype  # type: ignore[attr-defined]


def _unlike(actual: object, expected: object) -> str | None:
    """How a value of the state differs, but for dtypes and devices, in words."""
    if isinstance(expected, list) and isinstance(actual, list) and len(actual) == len(expected):
        unlike = (_unlike(left, right) for left, right in zip(actual, expected, strict=True))
        return next((difference for difference in unlike if difference is not None), None)
    if not isinstance(expected, torch.Tensor) or not isinstance(actual, torch.Tensor):
        alike = type(actual) is type(expected) and actual == expected
        return None if alike else f"{actual!r}, expected {expected!r}"
    if actual.shape != expected.shape:
        return f"of shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    if _kind(actual) != _kind(expected):
        return None  # which is another rule's
    return None if same_bits(actual, expected) else str(first_difference(actual, expected))


@rule(
    "CKPT506",
    "state-dtype",
    Training,
    statement="The optimizer's state has the dtypes of the file or of eager loading, and is where "
    "eager loading puts it.",
    explanation=(
        "Moments in another dtype are rounded, or take twice the memory, and decide other steps. A "
        "count of steps on another device is an error at the next one."
    ),
    cause="The state was cast or moved with the module, or made in the dtype that it was saved in.",
    fix="Leave dtypes and devices to `optimizer.load_state_dict`, or keep those of the file.",
    references=(
        "pytorch/torchtitan#4615",
        "pytorch/ao#3314",
        "pytorch/pytorch#103256",
        "pytorch/pytorch#80809",
    ),
)
def state_dtype(t: Training) -> Iterator[Broken]:
    for name, expected in t.eager_state.items():
        actual, saved = t.state.get(name, {}), t.saved_state.get(name, {})
        for key, value in expected.items():
            for left, right, kept in _tensors(actual.get(key), value, saved.get(key)):
                as_saved = left.device == right.device and _is_as_saved(left, kept)
                if _kind(left) != _kind(right) and not as_saved:
                    evidence = f"{_told(left)}, expected {_told(right)}"
                    yield Broken(f"{name} {key}", evidence, (name,))
                    break


def _kind(tensor: torch.Tensor) -> tuple[torch.dtype, torch.device]:
    return tensor.dtype, tensor.device


def _told(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} on {tensor.device}"


def _tensors(
    actual: object, expected: object, saved: object
) -> Iterator[tuple[torch.Tensor, torch.Tensor, object]]:
    """The tensors of two values of a state that are each other's, with that in the file."""
    if isinstance(actual, torch.Tensor) and isinstance(expected, torch.Tensor):
        yield actual, expected, saved
    elif isinstance(actual, list) and isinstance(expected, list):
        kept = saved if isinstance(saved, list) else [None] * len(expected)
        for values in zip(actual, expected, kept, strict=False):
            yield from _tensors(*values)


@rule(
    "CKPT507",
    "state-shared",
    Training,
    statement="The optimizer's state has its memory for itself.",
    explanation=(
        "A step writes to the state in place. What shares its memory changes along: a count that "
        "two parameters share goes up twice, and two optimizers that were resumed from what was "
        "read once spoil each other. What the eager optimizer shares as well is let pass."
    ),
    cause="`load_state_dict` keeps the tensors that it is given: it does not copy them.",
    fix="Read the file anew for each optimizer, or give each `copy.deepcopy` of what was read.",
    references=("pytorch/pytorch#196083", "pytorch/rl#3966"),
)
def state_shared(t: Training) -> Iterator[Broken]:
    for (name, key), other in t.shared.items():
        yield Broken(f"{name} {key}", f"has memory in common with {other}", (name,))


@rule(
    "CKPT508",
    "step-differs",
    Training,
    statement="A step moves the loaded module to the very bytes the eager module moves to.",
    explanation=(
        "Both modules are given the same gradients and one step of the same optimizer. Names that "
        "differed before the step are left out."
    ),
    cause="Parameters share memory, cannot be written to, or the optimizer steps other tensors.",
    fix="See the other findings of this case first; then compare state and references.",
    references=("pytorch/pytorch#102212",),
)
def step_differs(t: Training) -> Iterator[Broken]:
    if t.error is not None:
        yield Broken("the step", t.error)
    for name, (actual, expected) in t.steps.items():
        if name not in t.exempt:
            yield Broken(name, f"after the step, {first_difference(actual, expected)}")


@rule(
    "CKPT509",
    "state-dict-changed",
    Training,
    statement="A state dict that is loaded into the optimizer stays as it is.",
    explanation=(
        "It is the caller's: it may be saved, or loaded into another optimizer, and then has what "
        "the first one wrote into it."
    ),
    cause=(
        "`load_state_dict` pops keys of the dict that it is given, or writes to it. The copy that "
        "torch hands to hooks is shallow: groups and state in it are the caller's own."
    ),
    fix="Change a copy: of the dict, of its `param_groups`, of each group that is written to.",
    references=("pytorch/pytorch#188166",),
)
def state_dict_changed(t: Training) -> Iterator[Broken]:
    for place in t.changed:
        yield Broken(f"state_dict(){place}", "is another after loading", ("the state dict",))
