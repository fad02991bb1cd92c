"""The fused implementation, which keeps its step counts beside the parameters."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.optimizers import with_implementation


def _apply(plan: Plan, choose: Choose) -> bool:
    switched = with_implementation(plan.optimizer, "fused")
    plan.optimizer = switched or plan.optimizer
    return switched is not None


FEATURE = Feature(
    name="fused",
    of="optimizer",
    sentence="It is fused, and keeps its step counts beside the parameters.",
    references=("pytorch/pytorch#103256", "pytorch/pytorch#131153"),
    apply=_apply,
)
