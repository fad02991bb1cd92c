"""Parameters without state beside others that have it."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> None:
    plan.optimizer = replace(plan.optimizer, trained="some")


FEATURE = Feature(
    name="partial-state",
    of="optimizer",
    sentence="Half of its parameters had no gradient before it was saved, and have no state.",
    references=("pytorch/pytorch#192224",),
    apply=_apply,
)
