"""Entries of the file have other dtypes than the module's tensors."""

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
    # All at once as well: a loader that treats some in one way and some in another shows only so.
    drifting = [choose(slots)] if choose(("one", "every")) == "one" else slots
    dtypes: dict[str, str] = {}
    for slot in drifting:
        dtypes.setdefault(slot.group, choose(_OTHERS[_name(slot.dtype)]))
    for other in plan.structure.saved:
        if other.group in dtypes:
            plan.tensors[other.name] = TensorSpec(dtype=dtypes[other.group])
    return True


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


FEATURE = Feature(
    name="dtype-drift",
    of="checkpoint",
    sentence="Entries of the file have other dtypes than the module's tensors.",
    references=("pytorch/pytorch#126000", "mosaicml/llm-foundry#916"),
    apply=_apply,
)
