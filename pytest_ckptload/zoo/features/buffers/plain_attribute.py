"""A tensor that is neither parameter nor buffer: no state dict and no ``.to()`` reaches it."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class PlainAttribute(nn.Module):
    """A weight, and a tensor as a plain attribute, by itself or in a list or dict."""

    def __init__(self, size: int, held: str = "alone") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        scale = torch.arange(size) + 0.5
        self.scale = {"alone": scale, "list": [scale], "dict": {"scale": scale}}[held]


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("PlainAttribute", size=choose((2, 3)), held=choose(("alone", "list", "dict")))


FEATURE = Feature(
    name="plain-attribute",
    of="module",
    sentence="A tensor is neither parameter nor buffer, and comes from construction.",
    references=("pytorch/pytorch#102212", "TransformerLensOrg/TransformerLens#1637"),
    apply=_apply,
    factories=(PlainAttribute,),
)
