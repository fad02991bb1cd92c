"""The state dict has lost its ``_metadata``, as every dict made from another has."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> bool:
    if plan.versions:  # nobody could tell that the file is of an older one
        return False
    plan.metadata = False
    return True


FEATURE = Feature(
    name="metadata-stripped",
    of="checkpoint",
    sentence="The state dict in the file has no `_metadata`: no versions.",
    references=("open-mmlab/mmcv#1294", "pytorch/pytorch#8481"),
    apply=_apply,
)
