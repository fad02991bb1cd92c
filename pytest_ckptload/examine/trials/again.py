"""The same loader, called again: with the file as it was, and with another in its place.

Apart from the pipeline because one load is all that many cases take. The file is loaded again where
a case shows what a loader may keep, one kind of tensor maybe. Another file takes its place in plain
cases alone: what became of a file has nothing to do with what is in it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from pytest_ckptload.examine.loads import Loaded
from pytest_ckptload.observe import Observation, observe
from pytest_ckptload.observe.aliasing import overlaps
from pytest_ckptload.observe.tensors import plain, same_tensor
from pytest_ckptload.printable import described
from pytest_ckptload.rules import Comparison, SecondLoad, judge
from pytest_ckptload.rules.comparison import Reference

__all__ = ["loaded_again", "other_contents", "stale_names"]


def loaded_again(
    first: Observation,
    load: Callable[[], Loaded],
    construct: Callable[[], nn.Module],
    reference: Reference,
) -> SecondLoad:
    """What is wrong with the module of another load, though the ``first`` was right, and what it
    shares with that, and two constructions do not.
    """
    again = load().returned
    if not isinstance(again, nn.Module):
        return SecondLoad()  # it may be used once: what else is wrong with that is said elsewhere
    second = observe(again)
    shared = _pairs(first, second)
    if shared:
        built = set(_pairs(observe(construct()), observe(construct())))
        shared = [pair for pair in shared if pair not in built]
    wrong = [finding for finding in judge(Comparison(second, reference)) if not finding.advice]
    return SecondLoad(tuple(shared), tuple(wrong))


def _pairs(first: Observation, second: Observation) -> list[tuple[str, str]]:
    """The names, of the first and the second, of tensors with elements in common."""
    tensors = {
        (side, name): place.tensor
        for side, observation in enumerate((first, second))
        for name, place in observation.places.items()
        if observation.groups[name][0] == name
    }
    numbers = {str(number): key for number, key in enumerate(tensors)}
    found = overlaps({number: tensors[key] for number, key in numbers.items()})
    pairs = (sorted(numbers[number] for number in overlap.names) for overlap in found.values())
    return [(one[1], other[1]) for one, other in pairs if one[0] != other[0]]


def other_contents(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same state dict, of the same class and with its metadata, with one bit changed in every
    element of every tensor.

    Names that are one tensor, or views of one storage, are tensors of their own here.
    """
    other: Any = copy.copy(values)
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            other[name] = _changed(value)
    return other  # type: ignore[no-any-return]


def _changed(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.layout != torch.strided or tensor.is_quantized:
        return tensor
    tensor = plain(tensor).clone(memory_format=torch.contiguous_format)
    if tensor.dtype == torch.bool:
        return ~tensor
    if tensor.numel():
        tensor.view(-1).view(torch.uint8)[:: tensor.element_size()].bitwise_xor_(1)
    return tensor


def stale_names(loaded: Loaded, before: Mapping[str, Any], now: Mapping[str, Any]) -> SecondLoad:
    """The names that have the values of the file ``before`` and not of the one that was loaded."""
    if loaded.error is not None:
        return SecondLoad(error=described(loaded.error))
    if not isinstance(loaded.returned, nn.Module):
        return SecondLoad()
    stale = []
    for name, place in observe(loaded.returned).places.items():
        old, new = before.get(name), now.get(name)
        if place.lazy or place.tensor.is_quantized:
            continue  # what there is nothing to compare with, and what was not changed
        if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
            old, new = (plain(t).to(place.tensor.dtype) for t in (old, new))
            if same_tensor(place.tensor, old) and not same_tensor(place.tensor, new):
                stale.append(name)
    return SecondLoad(stale=tuple(stale))
