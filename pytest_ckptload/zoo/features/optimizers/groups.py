"""Parameters in several groups, each with settings of its own."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.case import GroupSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.optimizers import OPTIMIZERS


def _apply(plan: Plan, choose: Choose) -> bool:
    optimizer = plan.optimizer
    entry = OPTIMIZERS[optimizer.factory]
    if not entry.grouped:
        return False
    decay = {"weight_decay": 0.5} if entry.accepts("weight_decay") else {}
    own = GroupSpec({"lr": 0.25, **decay}), GroupSpec({"lr": 0.0625})
    groups = choose(((GroupSpec(), own[0]), own, (GroupSpec(), *own)))
    empty = tuple(group for group in optimizer.groups if group.empty)
    plan.optimizer = replace(optimizer, groups=(*empty, *groups))
    return True


FEATURE = Feature(
    name="groups",
    of="optimizer",
    sentence="Its parameters are in several groups, each with settings of its own.",
    references=("roytseng-tw/Detectron.pytorch#118", "pytorch/pytorch#129079"),
    apply=_apply,
)
