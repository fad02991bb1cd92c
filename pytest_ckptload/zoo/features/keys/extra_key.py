"""The file holds a tensor that the module does not have."""

from __future__ import annotations

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan

# The odd ones are no identifiers, leave the module's names, change a terminal, collide with a
# method, or fill every report.
_NAMES = ("extra", "extra.weight", "weight_extra", "with space", "forward", "..", "a\x1b[2Jb")
_LONG = "x" * 10**5


def _apply(plan: Plan, choose: Choose) -> None:
    taken = {slot.name for slot in plan.structure.saved}
    names = Covered.of(name for name in (*_NAMES, _LONG) if name not in taken)
    plan.extra[choose(names)] = TensorSpec(shape=(2,))


FEATURE = Feature(
    name="extra-key",
    of="checkpoint",
    sentence="The file holds a tensor that the module does not have.",
    references=("sgl-project/sglang#25332", "vllm-project/vllm#51063"),
    apply=_apply,
    loadable=False,
)
