"""The names in the file have a prefix, as those of a wrapped module."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> None:
    plan.prefix = choose(("module.", "_orig_mod.", "model."))


FEATURE = Feature(
    name="prefixed",
    of="checkpoint",
    sentence="The names in the file have a prefix that the module does not have.",
    references=("pytorch/pytorch#123625", "sgl-project/sglang#25332"),
    apply=_apply,
    loadable=False,
)
