"""State that was saved by a run that held its parameters in another order."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.optimizers import NAMED, OPTIMIZERS


def _apply(plan: Plan, choose: Choose) -> bool:
    optimizer = plan.optimizer
    # One that knows no groups keeps one state for all, in their order.
    if not NAMED or not OPTIMIZERS[optimizer.factory].grouped:
        return False
    if any(group.empty for group in optimizer.groups):
        return False
    plan.optimizer = replace(optimizer, named=True, reordered=True)
    return True


FEATURE = Feature(
    name="reordered-parameters",
    of="optimizer",
    sentence="The run that was saved held the parameters of each group in the reverse order.",
    references=("pytorch/pytorch#1489", "pytorch/pytorch#134107"),
    apply=_apply,
)
