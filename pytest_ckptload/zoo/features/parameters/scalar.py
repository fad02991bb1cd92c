"""Tensors without dimensions."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Scalar(nn.Module):
    """A parameter and a buffer without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("steps", torch.tensor(0))


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("Scalar")


FEATURE = Feature(
    name="scalar",
    of="module",
    sentence="A parameter and a buffer have no dimensions.",
    references=("huggingface/peft#3676",),
    apply=_apply,
    factories=(Scalar,),
)
