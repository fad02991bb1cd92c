"""Modules of different dtypes side by side."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("Linear", in_features=choose((1, 2)), out_features=1)
    plan.add("Linear", in_features=choose((1, 2)), out_features=1, dtype="float64")


FEATURE = Feature(
    name="mixed-dtype",
    of="module",
    sentence="Parameters of one module have different dtypes.",
    references=("huggingface/transformers#44589", "pytorch/pytorch#126000"),
    apply=_apply,
)
