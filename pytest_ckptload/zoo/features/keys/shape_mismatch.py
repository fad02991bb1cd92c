"""An entry of the file has another shape than the module's tensor: to be refused always."""

from __future__ import annotations

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan
from pytest_ckptload.zoo.structure import Slot


def _apply(plan: Plan, choose: Choose) -> bool:
    # A scalar takes what has one element.
    slots = plan.free(lambda slot: slot.numel > 0 and len(slot.shape) > 0)
    return plan.give_entry(choose, slots, lambda slot: TensorSpec(shape=choose(_others(slot))))


def _others(slot: Slot) -> tuple[tuple[int, ...], ...]:
    """One longer, one shorter; of as many elements; and one that ``copy_`` would broadcast."""
    first, *rest = slot.shape
    others = [(first + 1, *rest), (first - 1, *rest), (slot.numel,), (1, *slot.shape)]
    others.append((*slot.shape[:-1], 1))
    return tuple(dict.fromkeys(shape for shape in others if shape != slot.shape))


FEATURE = Feature(
    name="shape-mismatch",
    of="checkpoint",
    sentence="An entry of the file has another shape than the module's tensor.",
    references=("pytorch/pytorch#126604", "huggingface/transformers#24704"),
    apply=_apply,
    loadable=False,
)
