"""The file comes from a machine that stores numbers the other way round."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> bool:
    return plan.write_as("byteorder")


FEATURE = Feature(
    name="byteorder",
    of="checkpoint",
    sentence="The file has the other byte order.",
    references=("pytorch/pytorch#101688", "safetensors/safetensors#448"),
    apply=_apply,
    promise="formats",
)
