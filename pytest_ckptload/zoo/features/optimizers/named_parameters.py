"""An optimizer that knows the names of its parameters."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.optimizers import NAMED


def _apply(plan: Plan, choose: Choose) -> bool:
    # Torch takes a group without parameters for one without names, and refuses to mix them.
    if not NAMED or any(group.empty for group in plan.optimizer.groups):
        return False
    plan.optimizer = replace(plan.optimizer, named=True)
    return True


FEATURE = Feature(
    name="named-parameters",
    of="optimizer",
    sentence="It is made from `named_parameters()`, and its groups hold their names.",
    references=("pytorch/pytorch#1489", "pytorch/pytorch#134107"),
    apply=_apply,
)
