"""Step counts on the parameters' device, as a run on an accelerator saved them."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.optimizers import with_implementation


def _apply(plan: Plan, choose: Choose) -> bool:
    switched = with_implementation(plan.optimizer, "capturable")
    plan.optimizer = switched or plan.optimizer
    return switched is not None


FEATURE = Feature(
    name="capturable",
    of="optimizer",
    sentence="It was saved by a run on an accelerator that captured its steps.",
    references=("pytorch/pytorch#118326", "pytorch/pytorch#80809"),
    apply=_apply,
)
