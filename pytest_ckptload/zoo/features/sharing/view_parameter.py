"""A Parameter that is a view of another's memory, as the parts of a fused weight are."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Fused(nn.Module):
    """A fused weight, and Parameters that are its parts: slices, or every other element."""

    def __init__(self, size: int, step: int = 1) -> None:
        super().__init__()
        self.qkv = nn.Parameter(torch.ones(3 * size))
        self.q = nn.Parameter(self.qkv.detach()[: size * step : step])
        self.k = nn.Parameter(self.qkv.detach()[2 * size :])


def _apply(plan: Plan, choose: Choose) -> None:
    step = choose((1, 2))
    plan.add("Fused", size=choose((1, 2)), **({} if step == 1 else {"step": step}))
    plan.ties = choose(("shared", "separate"))


FEATURE = Feature(
    name="view-parameter",
    of="module",
    sentence="A Parameter is a view of another's memory.",
    references=(
        "TransformerLensOrg/TransformerLens#1637",
        "TransformerLensOrg/TransformerLens#1725",
    ),
    apply=_apply,
    factories=(Fused,),
)
