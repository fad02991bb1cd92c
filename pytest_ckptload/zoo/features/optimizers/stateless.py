"""An optimizer that was saved before its first step."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> None:
    plan.optimizer = replace(plan.optimizer, trained="none")


FEATURE = Feature(
    name="stateless",
    of="optimizer",
    sentence="It was saved before its first step.",
    references=("NVIDIA-NeMo/Megatron-Bridge#5680",),
    apply=_apply,
)
