"""An optimizer that knows the names of its parameters."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.optimizers import NAMED


def _apply(plan: Plan, choose: Choose) -> bool:
    plan.optimizer = replace(plan.optimizer, named=NAMED)
    return NAMED


FEATURE = Feature(
    name="named-parameters",
    of="optimizer",
    sentence="It is made from `named_parameters()`, and its groups hold their names.",
    references=("pytorch/pytorch#1489", "pytorch/pytorch#134107"),
    apply=_apply,
)
