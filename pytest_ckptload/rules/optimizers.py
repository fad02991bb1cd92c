"""CKPT501 to CKPT504: optimizers refer to the live parameters, in groups as they were built.

Apart from what optimizers know and do, which is in ``optimizer_state.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import torch

from pytest_ckptload.observe.aliasing import overlaps
from pytest_ckptload.observe.tensors import same_tensor
from pytest_ckptload.rules.facts import Training
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []

T = TypeVar("T")


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
        "It steps what it refers to: the module's own parameters stay as they are, in silence. So "
        "it is with an optimizer that a wrapper holds inside, whatever the wrapper's own groups "
        "say."
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
                place = f"{t.where}[{number}]['params'][{position}]"
                yield _stale(place, parameter, name)
    for where, slots in t.inner.items():
        yield from _left_inside(t, where, slots)
    without = tuple(name for name in t.eager_state if name not in t.state)
    for orphan in t.orphans if without else ():
        shape = tuple(orphan.shape)
        yield Broken("state", f"is kept for a tensor of shape {shape} that no group has", without)


def _stale(place: str, tensor: torch.Tensor, name: str | None) -> Broken:
    on = " on meta" if tensor.is_meta else ""
    other = f"; {name} of the module is another" if name else ""
    where = f"of shape {tuple(tensor.shape)}{on} that is not in the module{other}"
    names = (name,) if name else ()
    if isinstance(tensor, torch.nn.Parameter):
        return Broken(place, f"refers to a tensor {where}", names)
    return Broken(
        place,
        f"refers to a plain tensor, no Parameter, {where}",
        names,
        "The optimizer was made from tensors that are no parameters: those of a state dict, say, "
        "or of `.detach()` and `.data`.",
        "Make the optimizer from `module.parameters()`.",
    )


def _left_inside(t: Training, where: str, slots: list[list[torch.Tensor]]) -> Iterator[Broken]:
    """What an optimizer inside refers to and that is no parameter, nor a copy that it keeps of one.

    A copy (in another dtype, say) has memory of its own, and the value of its parameter.
    """
    live = _live(t)
    alike = [len(group) for group in slots] == [len(group) for group in t.slots]
    for number, group in enumerate(slots):
        for position, tensor in enumerate(group):
            if id(tensor) in live:
                continue
            parameter = t.slots[number][position] if alike else None
            name = None if parameter is None else live.get(id(parameter))
            if tensor.is_meta or (name and not _is_copy(tensor, t.actual.places[name].tensor)):
                yield _stale(f"{where}[{number}]['params'][{position}]", tensor, name)


def _is_copy(tensor: torch.Tensor, parameter: torch.Tensor) -> bool:
    if tensor.shape != parameter.shape or overlaps({"": tensor, "parameter": parameter}):
        return False
    return parameter.is_meta or same_tensor(tensor.detach().to(parameter.dtype), parameter)


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
            yield _missed(name) if held else _made_from_nothing(name)


def _missed(name: str) -> Broken:
    return Broken(name, "the optimizer does not refer to this parameter")


def _made_from_nothing(name: str) -> Broken:
    return Broken(
        name,
        "the optimizer does not refer to this parameter, nor to any",
        cause="The optimizer was made from nothing: of empty lists, or of a generator that was "
        "used up before.",
        fix="Hand it `module.parameters()` itself, called anew, or a list of them.",
    )


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


# How a step is computed, which depends on the machine, and not what it computes.
_IMPLEMENTATION = ("capturable", "differentiable", "foreach", "fused")


@rule(
    "CKPT504",
    "groups-changed",
    Training,
    statement="An optimizer's groups are those it was built with, with the settings of the file.",
    explanation=(
        "Learning rates, weight decay and the like are settings of groups. And state is saved by "
        "position: what is in another group, or in another order, gets the state of another "
        "parameter from the next file. What the eager optimizer does not have is let pass, and so "
        "are `foreach`, `fused`, `capturable` and `differentiable`."
    ),
    cause="The groups were made anew, or the optimizer was made with settings of its own.",
    fix=(
        "Build groups in the order of `named_parameters()`, and load the whole of "
        "`payload['optimizer']`, behind whatever sets learning rates (a scheduler does)."
    ),
    references=(
        "pytorch/pytorch#129079",
        "pytorch/pytorch#143828",
        "roytseng-tw/Detectron.pytorch#118",
        "facebookresearch/fairscale#380",
    ),
)
def groups_changed(t: Training) -> Iterator[Broken]:
    if not t.eager_settings:
        return
    if len(t.settings) != len(t.eager_settings):
        beyond = t.eager_slots[len(t.settings) :]
        counts = f"{len(t.settings)} groups, expected {len(t.eager_settings)}"
        yield Broken(t.where, counts, tuple(filter(None, _each(beyond))))
        return
    live = _live(t)
    held = {name for p in _each(t.slots) if (name := live.get(id(p))) is not None}
    known = set(_each(t.eager_slots))
    for number, (slots, eager_slots) in enumerate(zip(t.slots, t.eager_slots, strict=True)):
        mine = [n for p in slots if (n := live.get(id(p))) is not None and n in known]
        wanted = [name for name in eager_slots if name in held]
        if (mine := list(dict.fromkeys(mine))) != wanted:
            evidence = f"holds {_listed(mine)}, expected {_listed(wanted)}"
            yield Broken(f"{t.where}[{number}]", evidence, tuple(sorted({*mine, *wanted})))
        for difference in _unlike_settings(t.settings[number], t.eager_settings[number]):
            yield Broken(f"{t.where}[{number}]", difference, tuple(filter(None, eager_slots)))


def _each(groups: Sequence[Sequence[T]]) -> Iterator[T]:
    return (item for group in groups for item in group)


def _listed(names: Sequence[str | None]) -> str:
    shown = ", ".join(str(name) for name in names[:4])
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{shown}{more}" or "nothing"


def _unlike_settings(actual: Mapping[str, object], expected: Mapping[str, object]) -> Iterator[str]:
    for key, value in expected.items():
        if key in _IMPLEMENTATION:
            continue
        if key not in actual:
            yield f"has no {key!r}, expected {value!r}"
        elif not _same_setting(actual[key], value):
            yield f"{key!r} is {actual[key]!r}, expected {value!r}"


def _same_setting(actual: object, expected: object) -> bool:
    if isinstance(actual, torch.Tensor) and isinstance(expected, torch.Tensor):
        return same_tensor(actual, expected)
    if isinstance(actual, list | tuple) and isinstance(expected, list | tuple):
        pairs = zip(actual, expected, strict=False)
        return len(actual) == len(expected) and all(_same_setting(*pair) for pair in pairs)
    plain = bool | int | float | complex | str | None
    if not isinstance(actual, plain) or not isinstance(expected, plain):
        return type(actual) is type(expected)  # objects of somebody's own need not be comparable
    both_nan = actual != actual and expected != expected
    return both_nan or actual == expected
