"""A parameter that does not require gradients."""

from __future__ import annotations

from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def freeze(module: nn.Module, name: str) -> None:
    """Have the parameter ``name`` require no gradient."""
    module.get_parameter(name).requires_grad_(False)


def _apply(plan: Plan, choose: Choose) -> bool:
    weights = [slot for slot in plan.structure.saved if slot.kind == "parameter"]
    if not weights:
        return False
    plan.edit("freeze", name=choose(weights).name)
    return True


FEATURE = Feature(
    name="frozen",
    of="module",
    sentence="A parameter requires no gradient.",
    references=("pytorch/torchtitan#3886",),
    apply=_apply,
    factories=(freeze,),
    settled=True,
)
