"""A subclass of Parameter, as quantised and sharded weights are."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class TaggedParameter(nn.Parameter):
    """A Parameter of a type of its own."""


class Tagged(nn.Module):
    """A weight of a subclass of Parameter."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = TaggedParameter(torch.ones(size))


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("Tagged", size=choose((1, 2, 3)))


FEATURE = Feature(
    name="parameter-subclass",
    of="module",
    sentence="A parameter is of a subclass of nn.Parameter.",
    references=("vllm-project/vllm#34201",),
    apply=_apply,
    factories=(TaggedParameter, Tagged),
)
