"""A parameter without dimensions."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Scalar(nn.Module):
    """A number that is a parameter."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=dtype))


def _apply(plan: Plan, choose: Choose) -> None:
    dtype = choose(("float32", "bfloat16", "float64"))
    plan.add("Scalar", **({} if dtype == "float32" else {"dtype": dtype}))


FEATURE = Feature(
    name="scalar",
    of="module",
    sentence="A parameter has no dimensions.",
    references=("huggingface/peft#3676",),
    apply=_apply,
    factories=(Scalar,),
)
