"""The archive was written anew by a tool that compresses: what is mapped there is no tensor."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> bool:
    return plan.write_as("deflated")


FEATURE = Feature(
    name="deflated",
    of="checkpoint",
    sentence="The archive is compressed, as other tools write it.",
    references=("pytorch/pytorch#102549",),
    apply=_apply,
    promise="formats",
)
