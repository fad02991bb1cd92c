"""An entry of the file has another dtype than the module's tensor."""

from __future__ import annotations

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan

_OTHERS = {
    "float32": ("float64", "bfloat16", "float16"),
    "float64": ("float32",),
    "bfloat16": ("float32", "float16"),
    "float16": ("float32", "bfloat16"),
    "int64": ("int32",),
    "int32": ("int64",),
}


def _apply(plan: Plan, choose: Choose) -> bool:
    slots = plan.free(lambda slot: _name(slot.dtype) in _OTHERS)
    if not slots:
        return False
    slot = choose(slots)
    dtype = choose(_OTHERS[_name(slot.dtype)])
    for other in plan.structure.saved:
        if other.group == slot.group:
            plan.tensors[other.name] = TensorSpec(dtype=dtype)
    return True


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


FEATURE = Feature(
    name="dtype-drift",
    of="checkpoint",
    sentence="An entry of the file has another dtype than the module's tensor.",
    references=("pytorch/pytorch#126000", "mosaicml/llm-foundry#916"),
    apply=_apply,
)
