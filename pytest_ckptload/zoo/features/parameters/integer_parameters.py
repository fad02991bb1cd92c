"""Parameters of integers, as quantised weights are: no gradient may be required of them."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan
from pytest_ckptload.zoo.features.parameters.low_precision import Weights


def _apply(plan: Plan, choose: Choose) -> None:
    dtype = choose(Covered.of(("int64", "int8", "uint8", "bool"), slow=("int32", "int16")))
    plan.add("Weights", size=choose((2, 3)), dtype=dtype)


FEATURE = Feature(
    name="integer-parameters",
    of="module",
    sentence="A parameter is of integers, and cannot require a gradient.",
    references=("huggingface/transformers#32943",),
    apply=_apply,
    factories=(Weights,),
)
