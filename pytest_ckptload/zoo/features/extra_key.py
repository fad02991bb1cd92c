"""The file holds a tensor that the module does not have."""

from __future__ import annotations

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> None:
    taken = {slot.name for slot in plan.structure.saved}
    names = [name for name in ("extra", "extra.weight", "weight_extra") if name not in taken]
    plan.extra[choose(names)] = TensorSpec(shape=(2,))


FEATURE = Feature(
    name="extra-key",
    of="checkpoint",
    sentence="The file holds a tensor that the module does not have.",
    references=("sgl-project/sglang#25332", "vllm-project/vllm#51063"),
    apply=_apply,
)
