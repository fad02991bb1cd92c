"""State that was saved in another dtype than the parameters'."""

from __future__ import annotations

from dataclasses import replace

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> None:
    dtype = choose(("bfloat16", "float64"))
    plan.optimizer = replace(plan.optimizer, state_dtype=dtype)


FEATURE = Feature(
    name="state-dtype",
    of="optimizer",
    sentence="Its state was saved in another dtype than the parameters have.",
    references=("pytorch/pytorch#43706", "pytorch/torchtitan#4615", "vllm-project/speculators#411"),
    apply=_apply,
)
