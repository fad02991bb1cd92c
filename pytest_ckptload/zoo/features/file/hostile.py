"""The file's pickle runs code when it is unpickled without care: code that leaves a mark."""

from __future__ import annotations

from pytest_ckptload.case import Damage
from pytest_ckptload.damage import DAMAGES
from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan

_OPTIONS = Covered.of(name for name, kind in DAMAGES.items() if kind.hostile)


def _apply(plan: Plan, choose: Choose) -> bool:
    if plan.damage is not None or plan.format != "zip":
        return False
    plan.damage = Damage(choose(_OPTIONS))
    return True


FEATURE = Feature(
    name="hostile",
    of="checkpoint",
    sentence="The file's pickle runs code when it is unpickled without care.",
    references=("pytorch/pytorch#52596",),
    apply=_apply,
    promise="robust",
    loadable=False,
)
