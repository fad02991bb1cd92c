"""One Parameter under several names, in one module or across two."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def tie(module: nn.Module, source: str, target: str) -> None:
    """Make ``target`` the very Parameter that ``source`` is."""
    owner, _, name = target.rpartition(".")
    setattr(module.get_submodule(owner), name, module.get_parameter(source))


class TwoNames(nn.Module):
    """One Parameter, registered twice."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.alias = self.weight


class ThreeNames(TwoNames):
    """One Parameter, registered three times."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.third = self.weight


def _apply(plan: Plan, choose: Choose) -> None:
    form = choose(("TwoNames", "across", "ThreeNames"))
    if form == "across":
        size = choose((1, 2, 3))
        embedding = plan.add("Embedding", num_embeddings=size, embedding_dim=2)
        head = plan.add("Linear", in_features=2, out_features=size, bias=False)
        plan.edit("tie", source=embedding + "weight", target=head + "weight")
    else:
        plan.add(form, size=choose((1, 2)))
    plan.ties = choose(("shared", "separate", "differ"))


FEATURE = Feature(
    name="tied",
    of="module",
    sentence="One Parameter stands under several names, in one module or across two.",
    references=("pytorch/pytorch#188346", "huggingface/accelerate#1197"),
    apply=_apply,
    factories=(tie, TwoNames, ThreeNames),
)
