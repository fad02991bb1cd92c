"""The file comes from a machine that stores numbers the other way round."""

from __future__ import annotations

from pytest_ckptload.machine.dtypes import UNTYPED
from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> bool:
    # Torch swaps by the type of the storage: what has none comes back wrong in every way of
    # loading, the eager one included.
    return not plan.holds(UNTYPED) and plan.write_as("byteorder")


FEATURE = Feature(
    name="byteorder",
    of="checkpoint",
    sentence="The file has the other byte order.",
    references=("pytorch/pytorch#101688", "safetensors/safetensors#448"),
    apply=_apply,
    promise="formats",
)
