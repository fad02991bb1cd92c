"""Entries of the file are Parameters, with a ``requires_grad`` of their own."""

from __future__ import annotations

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.structure import Slot


def _apply(plan: Plan, choose: Choose) -> bool:
    def saved(slot: Slot) -> TensorSpec:
        real = slot.dtype.is_floating_point or slot.dtype.is_complex
        return TensorSpec(requires_grad=choose((False, True)) if real else False)

    return plan.give_entry(choose, plan.free(), saved)


def _base(plan: Plan, choose: Choose) -> None:
    if choose(("parameter", "buffer")) == "parameter":
        plan.add("Linear", in_features=1, out_features=1)
    else:
        plan.add("Table", size=2, dtype="float32")


FEATURE = Feature(
    name="parameters-saved",
    of="checkpoint",
    sentence="Entries of the file are Parameters, whose `requires_grad` is not the module's.",
    references=("pytorch/torchtitan#3886", "huggingface/transformers#32943"),
    apply=_apply,
    base=_base,
)
