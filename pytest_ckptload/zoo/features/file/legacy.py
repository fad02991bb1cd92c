"""The file has the format from before the zip archive, which ``torch.save`` writes when asked."""

from __future__ import annotations

import torch

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.machine.dtypes import UNTYPED
from pytest_ckptload.zoo.feature import Choose, Feature, Plan

# How much of the end of an archive stands behind its mark, and the mark itself.
_END = 22


def _apply(plan: Plan, choose: Choose) -> bool:
    # The format says what type a storage has: what has none is saved, and cannot be read.
    if plan.holds(UNTYPED) or not plan.write_as("legacy"):
        return False
    if choose((False, True)):
        slots = plan.free(lambda s: s.dtype == torch.float32 and s.numel * 4 >= _END)
        plan.give_entry(choose, slots, lambda slot: TensorSpec(values=((0, "archive-end"),)))
    return True


def _base(plan: Plan, choose: Choose) -> None:
    plan.add("Linear", in_features=3, out_features=2)


FEATURE = Feature(
    name="legacy",
    of="checkpoint",
    sentence=(
        "The file has the format from before the zip archive, and may look like one by chance."
    ),
    references=(
        "huggingface/transformers#28331",
        "pytorch/pytorch#102549",
        "pytorch/pytorch#25214",
    ),
    apply=_apply,
    promise="formats",
    base=_base,
)
