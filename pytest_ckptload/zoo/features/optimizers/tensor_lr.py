"""Learning rates that are tensors."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> bool:
    optimizer = plan.optimizer
    # Adam refuses the two together.
    if optimizer.kwargs.get("foreach"):
        return False
    plan.optimizer = replace(optimizer, tensor_lr=True)
    return True


FEATURE = Feature(
    name="tensor-lr",
    of="optimizer",
    sentence="Its learning rates are tensors.",
    references=("pytorch/pytorch#129079",),
    apply=_apply,
)
