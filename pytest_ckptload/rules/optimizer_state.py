"""CKPT505 to CKPT511: what optimizers know is what the file says, and their steps are right.

Apart from what optimizers refer to, which is in ``optimizers.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pytest_ckptload.observe.state import tensors_in, unlike
from pytest_ckptload.observe.tensors import first_difference, same_but_nan
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
        saved = t.saved_state.get(name, {})
        for key, value in expected.items():
            own, kept = actual.get(key), saved.get(key)
            if _converted(own, value, kept) is not None:
                continue  # which is another rule's
            as_saved = _dtypes(own) == _dtypes(kept) != _dtypes(value)
            if (difference := unlike(own, kept if as_saved else value)) is not None:
                yield Broken(f"{name} {key}", difference, (name,))


def _converted(actual: object, expected: object, saved: object) -> str | None:
    """Which tensor of a value of the state is not where it is expected, or has a dtype that neither
    the eager optimizer's value has nor the file's; in words.
    """
    as_saved = _dtypes(actual) == _dtypes(saved)
    for one, other in zip(tensors_in(actual), tensors_in(expected), strict=False):
        cast = one.dtype != other.dtype and not as_saved
        if one.shape == other.shape and (cast or one.device != other.device):
            return f"{one.dtype} on {one.device}, expected {other.dtype} on {other.device}"
    return None


def _dtypes(value: object) -> list[torch.dtype]:
    return [tensor.dtype for tensor in tensors_in(value)]


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
            evidence = _converted(actual.get(key), value, saved.get(key))
            if evidence is not None:
                yield Broken(f"{name} {key}", evidence, (name,))


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
    statement="Training goes on to the very bytes that the eager module goes on to.",
    explanation=(
        "Both modules are given the same gradients and the same steps of the same optimizer. "
        "Compared after one, two and five are parameters and buffers; where these agree, the "
        "optimizer's state, the learning rates, the losses, and the scheduler where the resumer "
        "gives one. Names that differed before the steps are left out."
    ),
    cause=(
        "Parameters share memory, cannot be written to, or the optimizer steps other tensors, with "
        "other settings or from another state."
    ),
    fix="See the other findings of this case first; then compare state and references.",
    references=("pytorch/pytorch#102212",),
)
def step_differs(t: Training) -> Iterator[Broken]:
    after = "after the step" if t.after == 1 else f"after {t.after} steps"
    if t.error is not None:
        yield Broken("the step", t.error if t.after == 1 else f"number {t.after} raised {t.error}")
    for name, (actual, expected) in t.steps.items():
        if name not in t.exempt:
            yield Broken(name, f"{after}, {first_difference(actual, expected)}")
    for name, what, difference in () if t.steps else t.others:
        names = (name,) if name else ()
        yield Broken(f"{name} {what}".strip(), f"{after}, {difference}", names)


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


@rule(
    "CKPT510",
    "state-converted",
    Training,
    statement="The optimizer's state has the dtypes that it has in the file.",
    explanation=(
        "Torch's `load_state_dict` casts floating state to the dtype of its parameter, so that "
        "moments in float32 of a bfloat16 parameter lose bits, and counts with them. Training then "
        "does not go on as it would have without the interruption."
    ),
    cause="`Optimizer.load_state_dict` cast the state to the dtype of the parameters.",
    fix=(
        "After `optimizer.load_state_dict(saved)`, put the file's tensors in the place of those "
        "that were cast, from a hook of `register_load_state_dict_post_hook`."
    ),
    references=(
        "pytorch/pytorch#43706",
        "pytorch/torchtitan#4615",
        "facebookresearch/fairscale#50",
    ),
    advice=True,
)
def state_cast(t: Training) -> Iterator[Broken]:
    # Another's state may have other dtypes, and some of its values be equal all the same.
    anothers = {name for name, _, actual, saved in _followed(t) if not _is_cast(actual, saved)}
    for name, key, actual, saved in _followed(t):
        if name not in anothers and _is_cast(actual, saved):
            yield Broken(f"{name} {key}", f"{actual.dtype}, saved in {saved.dtype}", (name,))


@rule(
    "CKPT511",
    "state-of-another",
    Training,
    statement="The state of a parameter is the one that was saved for its name.",
    explanation=(
        "Torch's `load_state_dict` gives out state in the order of the parameters, whatever their "
        "names are. Where the order is not that of the run that saved it, parameters of one shape "
        "have each other's moments, in silence."
    ),
    cause="The optimizer holds its parameters in another order than the one that was saved.",
    fix=(
        "Make optimizers of `named_parameters()`, and put the saved state in order by "
        "`param_names` before loading it, in a hook of `register_load_state_dict_pre_hook`."
    ),
    references=("pytorch/pytorch#1489", "pytorch/pytorch#134107"),
    advice=True,
)
def state_of_another(t: Training) -> Iterator[Broken]:
    for name, expected in t.eager_state.items() if t.saved_state else ():
        if name not in t.saved_state and expected and t.state.get(name):
            yield Broken(name, "has state, and none was saved for this name")
    for name, key, actual, saved in _followed(t):
        if not _is_cast(actual, saved):
            yield Broken(f"{name} {key}", f"saved for this name: {unlike(actual, saved)}", (name,))


def _followed(t: Training) -> Iterator[tuple[str, str, torch.Tensor, torch.Tensor]]:
    """The tensors of state that are as the eager optimizer loads them, and not as the file has
    them.
    """
    for name, expected in t.eager_state.items():
        actual, saved = t.state.get(name, {}), t.saved_state.get(name, {})
        for key in expected.keys() & actual.keys() & saved.keys():
            if unlike(actual[key], expected[key]) is not None:
                continue  # of which CKPT505 speaks
            pairs = zip(tensors_in(actual[key]), tensors_in(saved[key]), strict=False)
            unequal = ((one, other) for one, other in pairs if unlike(one, other) is not None)
            yield from ((name, key, *pair) for pair in unequal)


def _is_cast(actual: torch.Tensor, saved: torch.Tensor) -> bool:
    """Whether a tensor is the saved one in another dtype."""
    if actual.dtype == saved.dtype or actual.shape != saved.shape:
        return False
    return same_but_nan(actual, saved.to(actual.device, actual.dtype))
