"""The names stand in another order than the module's."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> None:
    plan.order = choose(("reversed", "sorted"))


FEATURE = Feature(
    name="reordered",
    of="checkpoint",
    sentence="The names in the file stand in another order than the module's.",
    references=("huggingface/transformers#44589",),
    apply=_apply,
)
