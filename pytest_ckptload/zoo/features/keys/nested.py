"""The state dict stands under a key, beside other things."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> None:
    plan.payload = choose(("state_dict", "model"))


FEATURE = Feature(
    name="nested",
    of="checkpoint",
    sentence="The state dict stands under a key of the file, beside other things.",
    references=("pytorch/pytorch#94670", "m2lines/Samudra#313"),
    apply=_apply,
    loadable=False,
)
