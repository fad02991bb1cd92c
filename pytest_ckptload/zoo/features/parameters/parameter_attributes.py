"""A Parameter with attributes of its own, as the weights of inference engines have."""

from __future__ import annotations

from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def annotate(module: nn.Module, name: str, attribute: str, value: object) -> None:
    """Give the parameter ``name`` an attribute."""
    setattr(module.get_parameter(name), attribute, value)


def _apply(plan: Plan, choose: Choose) -> bool:
    weights = [slot for slot in plan.structure.saved if slot.kind == "parameter"]
    if not weights:
        return False
    attribute, value = choose((("output_dim", 0), ("tag", "expert"), ("shape_before", (2, 2))))
    plan.edit("annotate", name=choose(weights).name, attribute=attribute, value=value)
    return True


FEATURE = Feature(
    name="parameter-attributes",
    of="module",
    sentence="A Parameter has attributes of its own.",
    references=("vllm-project/vllm#34201",),
    apply=_apply,
    factories=(annotate,),
    settled=True,
)
