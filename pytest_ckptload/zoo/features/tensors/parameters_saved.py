"""Entries of the file are Parameters, with a ``requires_grad`` of their own."""

from __future__ import annotations

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.structure import Slot


def _apply(plan: Plan, choose: Choose) -> bool:
    free = plan.free()
    kind = choose(("parameter", "buffer"))
    slots = [slot for slot in free if slot.kind == kind] or free

    def saved(slot: Slot) -> TensorSpec:
        if not slot.trainable:
            return TensorSpec(requires_grad=False)
        # That which is not the module's first.
        return TensorSpec(requires_grad=choose((slot.kind == "buffer", slot.kind != "buffer")))

    return plan.give_entry(choose, slots, saved)


def _base(plan: Plan, choose: Choose) -> None:
    plan.add("Table", size=2, dtype="float32")


FEATURE = Feature(
    name="parameters-saved",
    of="checkpoint",
    sentence="Entries of the file are Parameters, whose `requires_grad` is not the module's.",
    references=("pytorch/torchtitan#3886", "huggingface/transformers#32943"),
    apply=_apply,
    base=_base,
)
