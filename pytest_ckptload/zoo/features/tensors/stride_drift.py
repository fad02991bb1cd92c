"""An entry of the file is dense, in another order than the module's tensor."""

from __future__ import annotations

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.structure import Slot


def _apply(plan: Plan, choose: Choose) -> bool:
    slots = plan.free(
        lambda slot: slot.numel > 0 and min(slot.shape[:1] + slot.shape[-1:], default=0) > 1
    )
    slots = [slot for slot in slots if len(slot.shape) > 1]

    def other(slot: Slot) -> TensorSpec:
        images = len(slot.shape) == 4
        return TensorSpec(
            form=choose(("transposed", "channels-last") if images else ("transposed",))
        )

    return plan.give_entry(choose, slots, other)


FEATURE = Feature(
    name="stride-drift",
    of="checkpoint",
    sentence="An entry of the file is dense in another order than the module's tensor.",
    references=("safetensors/safetensors#308", "tracel-ai/burn#5383"),
    apply=_apply,
)
