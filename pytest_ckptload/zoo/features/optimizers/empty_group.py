"""A group without parameters, before or behind the others."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.case import GroupSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.optimizers import OPTIMIZERS


def _apply(plan: Plan, choose: Choose) -> bool:
    optimizer = plan.optimizer
    if not OPTIMIZERS[optimizer.factory].grouped:
        return False
    others = optimizer.groups or (GroupSpec(),)
    empty = GroupSpec({"lr": 0.75}, empty=True)
    groups = choose(((*others, empty), (empty, *others)))
    plan.optimizer = replace(optimizer, groups=groups)
    return True


FEATURE = Feature(
    name="empty-group",
    of="optimizer",
    sentence="One of its groups has settings, and no parameter.",
    references=("pytorch/pytorch#143828",),
    apply=_apply,
)
