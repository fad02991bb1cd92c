"""Two entries of the file are views of one storage, overlapping or side by side."""

from __future__ import annotations

from pytest_ckptload.case import View
from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.structure import Slot


def _apply(plan: Plan, choose: Choose) -> bool:
    tied = {name for names in plan.structure.ties() for name in names}
    slots = plan.free(lambda slot: slot.numel > 0 and slot.name not in tied)
    first = next((s for s in slots if _partners(s, slots)), None)
    if first is None:
        return False
    second = choose(_partners(first, slots))
    plan.views.append(View((first.name, second.name), choose((0, first.numel, first.numel - 1))))
    return True


def _base(plan: Plan, choose: Choose) -> None:
    # Offsets are counted in elements, and readers that take four bytes for one are found so.
    dtype = choose(("float32", "float64", "bfloat16"))
    plan.add("Linear", in_features=2, out_features=2, dtype=dtype)


def _partners(first: Slot, slots: list[Slot]) -> list[Slot]:
    return [s for s in slots if s.name != first.name and s.dtype == first.dtype]


FEATURE = Feature(
    name="views",
    of="checkpoint",
    sentence="Two entries of the file are views of one storage, overlapping or side by side.",
    references=("pytorch/pytorch#158080", "tinygrad/tinygrad#14771"),
    apply=_apply,
    base=_base,
)
