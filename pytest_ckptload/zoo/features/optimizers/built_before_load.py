"""Adagrad, which makes its state when it is made."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> bool:
    if plan.optimizer.factory != "Adagrad":
        return False
    kwargs = {**plan.optimizer.kwargs, "initial_accumulator_value": 0.5}
    plan.optimizer = replace(plan.optimizer, kwargs=kwargs)
    return True


FEATURE = Feature(
    name="built-before-load",
    of="optimizer",
    sentence="It makes its state when it is made, of the parameters that are there by then.",
    references=("pytorch/pytorch#102212", "pytorch/pytorch#121158"),
    apply=_apply,
)
