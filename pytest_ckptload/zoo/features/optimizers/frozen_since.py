"""Parameters that were trained before the optimizer was saved, and are frozen now."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> None:
    # A module that is given has what its owner froze.
    plan.edit("freeze_every_other")
    plan.optimizer = replace(plan.optimizer, frozen=True, thawed=True)


FEATURE = Feature(
    name="frozen-since",
    of="optimizer",
    sentence="It has state of parameters that were trained, of which half are frozen now.",
    references=("pytorch/torchtitan#3886",),
    apply=_apply,
)
