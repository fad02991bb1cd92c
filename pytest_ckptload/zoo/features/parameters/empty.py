"""Tensors without elements."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Empty(nn.Module):
    """A parameter without elements beside one with."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.nothing = nn.Parameter(torch.ones(shape))


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("Empty", shape=choose(((0,), (0, 2), (2, 0))))


FEATURE = Feature(
    name="empty",
    of="module",
    sentence="A parameter has no elements.",
    references=("pytorch/pytorch#163480",),
    apply=_apply,
    factories=(Empty,),
)
