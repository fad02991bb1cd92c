"""The file says that its tensors were on a device that is not here, as files from elsewhere do."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> None:
    plan.device = choose(("cuda:0", "cuda:1", "mps", "xpu:0"))


FEATURE = Feature(
    name="device-tag",
    of="checkpoint",
    sentence="The file says that its tensors were on a device that need not be here.",
    references=("Lightning-AI/pytorch-lightning#17308", "pytorch/pytorch#82412"),
    apply=_apply,
    promise="formats",
)
