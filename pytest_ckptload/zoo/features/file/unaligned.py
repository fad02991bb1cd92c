"""The archive's records lie where they come to lie: no tensor starts at a multiple of its width."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> bool:
    return plan.write_as("unaligned")


FEATURE = Feature(
    name="unaligned",
    of="checkpoint",
    sentence="The tensors in the file are not aligned.",
    references=("safetensors/safetensors#839", "pytorch/pytorch#190043"),
    apply=_apply,
    promise="formats",
)
