"""The file comes from a machine that stores numbers the other way round."""

from __future__ import annotations

from pytest_ckptload.dtypes import known, named
from pytest_ckptload.zoo.feature import Choose, Feature, Plan

# Torch swaps by the type of the storage, and these have none: they come back wrong in every way of
# loading, the eager one included.
_NOT_SWAPPED = {
    named(name) for name in known(("uint16", "uint32", "uint64", "bits16", "complex32"))
}


def _apply(plan: Plan, choose: Choose) -> bool:
    if any(slot.dtype in _NOT_SWAPPED for slot in plan.structure.saved):
        return False
    return plan.write_as("byteorder")


FEATURE = Feature(
    name="byteorder",
    of="checkpoint",
    sentence="The file has the other byte order.",
    references=("pytorch/pytorch#101688", "safetensors/safetensors#448"),
    apply=_apply,
    promise="formats",
)
