"""An entry of the file has its conjugate or negative bit set: what it stores is not its value."""

from __future__ import annotations

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.structure import Slot


def _apply(plan: Plan, choose: Choose) -> bool:
    slots = plan.free(_can_be)
    return plan.give_entry(
        choose,
        slots,
        lambda slot: TensorSpec(form="conjugated" if slot.dtype.is_complex else "negated"),
    )


def _can_be(slot: Slot) -> bool:
    number = slot.dtype.is_complex or slot.dtype.is_floating_point
    return number and slot.dtype.itemsize > 1 and slot.numel > 0


def _base(plan: Plan, choose: Choose) -> None:
    dtype = choose(("complex64", "float32", "complex128"))
    plan.add("Linear", in_features=1, out_features=2, bias=False, dtype=dtype)


FEATURE = Feature(
    name="conj-neg",
    of="checkpoint",
    sentence="An entry of the file has its conjugate or its negative bit set.",
    references=("safetensors/safetensors#831", "pytorch/pytorch#81690"),
    apply=_apply,
    base=_base,
)
