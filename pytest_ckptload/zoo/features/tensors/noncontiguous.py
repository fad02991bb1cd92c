"""An entry of the file has gaps between its elements, as a column of a larger tensor has."""

from __future__ import annotations

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> bool:
    slots = plan.free(lambda slot: slot.numel > 1)
    return plan.give_entry(choose, slots, lambda slot: TensorSpec(form="gaps"))


FEATURE = Feature(
    name="noncontiguous",
    of="checkpoint",
    sentence="An entry of the file has gaps between its elements.",
    references=("tracel-ai/burn#5383", "tinygrad/tinygrad#14771"),
    apply=_apply,
)
