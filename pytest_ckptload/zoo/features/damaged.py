"""The file is damaged: emptied, cut off, or with a bit flipped in its directory or its data."""

from __future__ import annotations

from pytest_ckptload.case import Damage
from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> None:
    kind = choose(("truncated", "emptied", "directory", "data"))
    where = choose((0.5, 0.1, 0.9, 0.99)) if kind == "truncated" else 0.5
    plan.damage = Damage(kind, where)


FEATURE = Feature(
    name="damaged",
    of="checkpoint",
    sentence="The file is emptied, cut off, or has a bit flipped in its directory or data.",
    references=("meta-pytorch/torchtune#1018",),
    apply=_apply,
)
