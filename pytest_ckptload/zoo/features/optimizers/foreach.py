"""The implementation over lists of tensors."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.optimizers import with_implementation


def _apply(plan: Plan, choose: Choose) -> bool:
    switched = with_implementation(plan.optimizer, "foreach")
    plan.optimizer = switched or plan.optimizer
    return switched is not None


FEATURE = Feature(
    name="foreach",
    of="optimizer",
    sentence="It steps all of its parameters at once.",
    references=("pytorch/pytorch#102047",),
    apply=_apply,
)
