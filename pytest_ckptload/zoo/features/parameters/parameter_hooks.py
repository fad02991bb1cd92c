"""A Parameter with a hook on its gradient."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def doubled(gradient: torch.Tensor) -> torch.Tensor:
    """Twice the gradient."""
    return gradient * 2


def doubled_in_place(parameter: torch.Tensor) -> None:
    """Double the gradient where it was accumulated."""
    if parameter.grad is not None:
        parameter.grad.mul_(2)


def hook(module: nn.Module, name: str, accumulated: bool = False) -> None:
    """Register a hook on the gradient of the parameter ``name``."""
    parameter = module.get_parameter(name)
    if accumulated:
        parameter.register_post_accumulate_grad_hook(doubled_in_place)  # type: ignore[no-untyped-call]
    else:
        parameter.register_hook(doubled)  # type: ignore[no-untyped-call]


def _apply(plan: Plan, choose: Choose) -> bool:
    if "frozen" in plan.features:
        return False
    weights = [s for s in plan.structure.saved if s.kind == "parameter" and s.trainable]
    if not weights:
        return False
    accumulated = choose((False, True))
    name = choose(weights).name
    plan.edit("hook", name=name, **({"accumulated": True} if accumulated else {}))
    return True


FEATURE = Feature(
    name="parameter-hooks",
    of="module",
    sentence="A Parameter has a hook on its gradient.",
    references=("axolotl-ai-cloud/axolotl#3977",),
    apply=_apply,
    factories=(doubled, doubled_in_place, hook),
    settled=True,
)
