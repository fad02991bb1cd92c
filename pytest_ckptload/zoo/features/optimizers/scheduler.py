"""A scheduler of the learning rate, saved beside the optimizer."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.optimizers import SCHEDULERS


def _apply(plan: Plan, choose: Choose) -> None:
    plan.optimizer = replace(plan.optimizer, scheduler=choose((*SCHEDULERS,)))


FEATURE = Feature(
    name="scheduler",
    of="optimizer",
    sentence="A scheduler set its learning rates, and has its state in the file under `scheduler`.",
    references=("pytorch/pytorch#140900", "pytorch/pytorch#129079"),
    apply=_apply,
)
