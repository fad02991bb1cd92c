"""Parameters in half precision and below."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.machine.dtypes import LOW_PRECISION, known
from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan


class Weights(nn.Module):
    """One parameter of any dtype, which requires a gradient where the dtype can have one."""

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        super().__init__()
        trainable = dtype.is_floating_point or dtype.is_complex
        self.weight = nn.Parameter(torch.zeros(size, dtype=dtype), requires_grad=trainable)


def _apply(plan: Plan, choose: Choose) -> None:
    dtype = choose(Covered.of(known(LOW_PRECISION)))
    plan.add("Weights", size=choose((2, 3)), dtype=dtype)


FEATURE = Feature(
    name="low-precision",
    of="module",
    sentence="Parameters are bfloat16, float16 or float8.",
    references=("huggingface/accelerate#454", "safetensors/safetensors#839"),
    apply=_apply,
    factories=(Weights,),
)
