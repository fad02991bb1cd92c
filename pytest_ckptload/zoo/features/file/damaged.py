"""The file is damaged, in any way but one that runs code."""

from __future__ import annotations

from pytest_ckptload.case import Damage
from pytest_ckptload.damage import DAMAGES
from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan

_KINDS = {name: kind for name, kind in DAMAGES.items() if not kind.hostile}
_OPTIONS = Covered.of(
    (name for name, kind in _KINDS.items() if not kind.slow),
    (name for name, kind in _KINDS.items() if kind.slow),
)


def _apply(plan: Plan, choose: Choose) -> bool:
    if plan.damage is not None or plan.format != "zip":
        return False
    kind = choose(_OPTIONS)
    plan.damage = Damage(kind, choose(_KINDS[kind].places))
    return True


FEATURE = Feature(
    name="damaged",
    of="checkpoint",
    sentence="The file is cut off, has other bits, records or sizes, or is none at all.",
    references=("meta-pytorch/torchtune#1018",),
    apply=_apply,
    promise="robust",
    loadable=False,
)
