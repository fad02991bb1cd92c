"""The implementation over lists of tensors, or the one over a tensor after the other."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.optimizers import with_implementation


def _apply(plan: Plan, choose: Choose) -> bool:
    switched = with_implementation(plan.optimizer, "foreach", on=choose((True, False)))
    plan.optimizer = switched or plan.optimizer
    return switched is not None


FEATURE = Feature(
    name="foreach",
    of="optimizer",
    sentence="It is told to step all of its parameters at once, or one after the other.",
    references=("pytorch/pytorch#102047",),
    apply=_apply,
)
