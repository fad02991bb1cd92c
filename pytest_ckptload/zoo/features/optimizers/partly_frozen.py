"""Parameters that the optimizer holds and never steps."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def freeze_every_other(module: nn.Module) -> None:
    """Have every other parameter, beginning with the second, require no gradient."""
    for parameter in [*module.parameters()][1::2]:
        if not nn.parameter.is_lazy(parameter):
            parameter.requires_grad_(False)


def _apply(plan: Plan, choose: Choose) -> None:
    # A module that is given has what its owner froze.
    plan.edit("freeze_every_other")
    plan.optimizer = replace(plan.optimizer, frozen=True)


FEATURE = Feature(
    name="partly-frozen",
    of="optimizer",
    sentence="It is given all parameters, of which half (in generated modules) are frozen.",
    references=("pytorch/torchtitan#3886",),
    apply=_apply,
    factories=(freeze_every_other,),
)
