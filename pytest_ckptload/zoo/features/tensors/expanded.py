"""An entry of the file is expanded: all along a dimension it has the same elements in memory."""

from __future__ import annotations

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> bool:
    slots = plan.free(lambda slot: slot.numel > 1 and slot.shape[0] > 1)
    return plan.give_entry(choose, slots, lambda slot: TensorSpec(form="expanded"))


FEATURE = Feature(
    name="expanded",
    of="checkpoint",
    sentence="An entry of the file is expanded: it overlaps itself.",
    references=("tracel-ai/burn#5383", "pytorch/pytorch#158080"),
    apply=_apply,
)
