"""CKPT1xx: the values of tensors."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pytest_ckptload.machine.dtypes import PACKED
from pytest_ckptload.observe.tensors import (
    first_difference,
    is_poison,
    plain,
    same_but_nan,
    same_tensor,
)
from pytest_ckptload.rules.comparison import Comparison
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []


def _kind(c: Comparison, name: str) -> str:
    """Which of the four rules of this file a wrong value belongs to."""
    place, expected = c.wrong[name]
    if is_poison(place.tensor) and not is_poison(expected):
        return "uninitialised"
    built = c.built(name)
    if built is not None and same_tensor(place.tensor, built):
        return "initial"
    if _same_number(place.tensor, expected):
        return "number"
    return "bits"


def _same_number(left: torch.Tensor, right: torch.Tensor) -> bool:
    exact = torch.complex128 if left.dtype.is_complex else torch.float64
    if left.dtype in PACKED or not (left.dtype.is_floating_point or left.dtype.is_complex):
        return False
    # Adding zero turns -0.0 into 0.0 and leaves every other number alone.
    left, right = (plain(tensor).cpu().to(exact) + 0.0 for tensor in (left, right))
    return same_but_nan(left, right)


def _broken(c: Comparison, kind: str) -> Iterator[Broken]:
    for name, (place, expected) in c.wrong.items():
        if _kind(c, name) == kind:
            difference = first_difference(place.tensor, expected)
            yield Broken(name, f"{difference} (from {_source(c, name)})")


def _source(c: Comparison, name: str) -> str:
    if name in c.sources:
        return "the file"
    group = c.reference.eager.groups[name]
    return "the reference" if c.reference.translated.intersection(group) else "construction"


@rule(
    "CKPT101",
    "bits-differ",
    Comparison,
    statement="Every tensor holds the bytes that the checkpoint, or construction, gives it.",
    explanation=(
        "Values are compared as bytes, after conversion to the dtype the loaded tensor has. Where "
        "nothing was converted every bit counts, NaN payloads included. Names that the file does "
        "not hold keep the values that construction gives them."
    ),
    cause=(
        "The loader read another entry, another offset or another dtype, converted the values on "
        "the way, or changed them after loading."
    ),
    fix="Compare the entry of this name in the file with what the loader assigns to it.",
    references=("tracel-ai/burn#5383", "tinygrad/tinygrad#14771", "huggingface/transformers#46849"),
)
def bits_differ(c: Comparison) -> Iterator[Broken]:
    return _broken(c, "bits")


@rule(
    "CKPT102",
    "uninitialised",
    Comparison,
    statement="No tensor holds uninitialised memory.",
    explanation=(
        "Loads run while torch fills new memory with NaN, or with the greatest integer, so that "
        "memory that nobody wrote to is recognised even where it would happen to hold the "
        "right bytes."
    ),
    cause=(
        "The tensor was made by `to_empty`, `empty` or `empty_like`, and nothing was written to it."
    ),
    fix=(
        "After `to_empty`, fill what the file does not hold: call the module's `reset_parameters` "
        "or compute the buffer again, or build outside `torch.device('meta')`."
    ),
    references=(
        "huggingface/transformers#48892",
        "huggingface/transformers#45902",
        "pytorch/pytorch#148843",
    ),
)
def uninitialised(c: Comparison) -> Iterator[Broken]:
    yield from _broken(c, "uninitialised")
    for place, eager in c.shared:
        if place.name in c.unjudged and is_poison(place.tensor) and not is_poison(eager.tensor):
            yield Broken(
                place.name, f"missing from the file, and all {place.tensor.numel()} elements unset"
            )


@rule(
    "CKPT103",
    "number-form-lost",
    Comparison,
    statement="NaN payloads and the sign of zero survive.",
    explanation=(
        "All numbers are equal, but the bits of a NaN or the sign of a zero are not those in "
        "the file. "
        "No conversion took place that would excuse it."
    ),
    cause="The values went through arithmetic or through another dtype and back.",
    fix="Copy bytes (`copy_` within one dtype, or assign), without a detour over another dtype.",
    references=("pytorch/pytorch#81690", "safetensors/safetensors#831"),
)
def number_form_lost(c: Comparison) -> Iterator[Broken]:
    return _broken(c, "number")


@rule(
    "CKPT104",
    "not-restored",
    Comparison,
    statement="Every tensor that the file holds is restored from it.",
    explanation=(
        "The tensor still has the values that construction gives it, or has them again: the file's "
        "were not copied, or were overwritten afterwards."
    ),
    cause=(
        "The name was skipped, the copy went to a tensor that the module no longer uses, or an "
        "initialiser ran over the loaded module."
    ),
    fix="Look at what `load_state_dict` returns, and at what runs after it.",
    references=(
        "pytorch/pytorch#105963",
        "huggingface/transformers#37615",
        "RobTand/prismaquant#968",
    ),
)
def not_restored(c: Comparison) -> Iterator[Broken]:
    return _broken(c, "initial")
