"""A Parameter that an attribute, a list or a dict of the module holds as well."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Aliased(nn.Module):
    """A weight that something holds besides the module: a list, a dict, or a plain attribute."""

    def __init__(self, size: int, held: str = "list") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        if held == "attribute":
            object.__setattr__(self, "alias", self.weight)
        else:
            self.alias = {"list": [self.weight], "dict": {"weight": self.weight}}[held]


def _apply(plan: Plan, choose: Choose) -> None:
    held = choose(("list", "dict", "attribute"))
    plan.add("Aliased", size=choose((1, 2)), **({} if held == "list" else {"held": held}))


FEATURE = Feature(
    name="alias-attribute",
    of="module",
    sentence="A list, a dict or an attribute of the module holds a Parameter as well.",
    references=("pytorch/pytorch#102212", "TransformerLensOrg/TransformerLens#1637"),
    apply=_apply,
    factories=(Aliased,),
)
