"""A constructor that reads the values of tensors, which meta tensors do not have."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Rates(nn.Module):
    """A weight, and numbers that construction reads from a tensor."""

    def __init__(self, size: int, read: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        rates = torch.linspace(0, 0.5, size)
        if read == "item":
            self.rates = [rate.item() for rate in rates]
        elif read == "tolist":
            self.rates = rates.tolist()
        elif read == "float":
            self.rates = [float(rate) for rate in rates]
        else:
            self.rates = [0.5 if rate > 0 else 0.0 for rate in rates]


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("Rates", size=choose((1, 2)), read=choose(("item", "tolist", "float", "if")))


FEATURE = Feature(
    name="value-dependent-init",
    of="module",
    sentence="A constructor reads the values of a tensor.",
    references=("huggingface/transformers#43957", "ndif-team/nnterp#50"),
    apply=_apply,
    factories=(Rates,),
)
