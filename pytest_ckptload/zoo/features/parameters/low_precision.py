"""Parameters in half precision and below."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Weights(nn.Module):
    """One parameter of any dtype that can require a gradient."""

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size, dtype=torch.float32).to(dtype))


def _apply(plan: Plan, choose: Choose) -> None:
    dtype = choose(("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"))
    plan.add("Weights", size=choose((2, 3)), dtype=dtype)


FEATURE = Feature(
    name="low-precision",
    of="module",
    sentence="Parameters are bfloat16, float16 or float8.",
    references=("huggingface/accelerate#454", "safetensors/safetensors#839"),
    apply=_apply,
    factories=(Weights,),
)
