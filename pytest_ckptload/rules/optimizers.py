"""CKPT5xx: optimizers refer to the live parameters, and step them to the right bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch

from pytest_ckptload.observe.state import tensors_in, unlike
from pytest_ckptload.observe.tensors import first_difference, same_but_nan
from pytest_ckptload.rules.facts import Training
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []


def _live(t: Training) -> dict[int, str]:
    """The module's parameters by identity, with their first names."""
    return {
        id(place.tensor): t.actual.groups[name][0]
        for name, place in t.actual.places.items()
        if place.kind == "parameter"
    }


@rule(
    "CKPT501",
    "stale-reference",
    Training,
    statement="An optimizer refers to no tensor that its module does not have.",
    explanation=(
        "It steps what it refers to: the module's own parameters stay as they are, in silence."
    ),
    cause=(
        "The optimizer was made before the load, and the load replaced the parameters: "
        "`assign=True` does, and so do `to_empty` and moves to another device type."
    ),
    fix=(
        "Make the optimizer after loading, or load with "
        "`torch.__future__.set_swap_module_params_on_conversion(True)`, which keeps the objects."
    ),
    references=(
        "pytorch/pytorch#102212",
        "pytorch/pytorch#121158",
        "huggingface/accelerate#3256",
        "pfnet/pytorch-pfn-extras#187",
    ),
)
def stale_reference(t: Training) -> Iterator[Broken]:
    live = _live(t)
    for number, group in enumerate(t.slots):
        for position, parameter in enumerate(group):
            if id(parameter) not in live:
                known, name = _name_of_slot(t, number, position)
                if known and name is None:
                    continue  # the eager optimizer has one from elsewhere there, too
                yield Broken(
                    f"param_groups[{number}]['params'][{position}]",
                    f"refers to a tensor of shape {tuple(parameter.shape)} that is not in the "
                    "module" + (f"; {name} of the module is another" if name else ""),
                    (name,) if name else (),
                )


def _name_of_slot(t: Training, number: int, position: int) -> tuple[bool, str | None]:
    """Whether the eager optimizer has this slot, and the name of what is in it."""
    if number < len(t.eager_slots) and position < len(t.eager_slots[number]):
        return True, t.eager_slots[number][position]
    return False, None


@rule(
    "CKPT502",
    "parameter-missed",
    Training,
    statement="Every parameter that the eager optimizer steps has a place in the optimizer.",
    explanation="A parameter that no optimizer knows does not train, and nothing says so.",
    cause="The optimizer was made from other tensors than the module has now, or from only some.",
    fix="Make the optimizer from `module.parameters()` of the module that was returned.",
    references=("huggingface/accelerate#3256", "pytorch/pytorch#149205"),
)
def parameter_missed(t: Training) -> Iterator[Broken]:
    held = {id(parameter) for group in t.slots for parameter in group}
    wanted = (name for group in t.eager_slots for name in group if name is not None)
    for name in dict.fromkeys(wanted):
        place = t.actual.places.get(name)
        if place is not None and id(place.tensor) not in held:
            yield Broken(name, "the optimizer does not refer to this parameter")


@rule(
    "CKPT503",
    "parameter-twice",
    Training,
    statement="Every parameter stands in one place of an optimizer, and in one only.",
    explanation="A parameter that stands twice is stepped twice, or has two states.",
    cause="Groups were added after a load without taking the old ones away, or a tie was lost.",
    fix="Make the optimizer anew, or replace `param_groups` instead of adding to them.",
    references=("pytorch/pytorch#128011",),
)
def parameter_twice(t: Training) -> Iterator[Broken]:
    live = _live(t)
    times = Counter(id(parameter) for group in t.slots for parameter in group)
    for key, count in times.items():
        if count > 1:
            yield Broken(live.get(key, "a tensor outside the module"), f"stands {count} times")


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
            if (difference := unlike(actual.get(key), value)) is not None:
                yield Broken(f"{name} {key}", difference, (name,))


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
    for name, key, actual, saved in _followed(t):
        if _is_cast(actual, saved):
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
    for name in t.eager_state.keys() - t.saved_state.keys() if t.saved_state else ():
        if t.eager_state[name] and t.state.get(name):
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
