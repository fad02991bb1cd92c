"""The file has the format from before the zip archive, which ``torch.save`` writes when asked."""

from __future__ import annotations

from pytest_ckptload.machine.dtypes import UNTYPED
from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> bool:
    # The format says what type a storage has: what has none is saved, and cannot be read.
    return not plan.holds(UNTYPED) and plan.write_as("legacy")


FEATURE = Feature(
    name="legacy",
    of="checkpoint",
    sentence="The file has the format from before the zip archive.",
    references=("huggingface/transformers#28331", "pytorch/pytorch#102549"),
    apply=_apply,
    promise="formats",
)
