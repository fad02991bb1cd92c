"""Buffers of dtypes that tables of dtypes are often without."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.machine.dtypes import RARE, known
from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan


class Codes(nn.Module):
    """A weight, and a buffer of any dtype, as the codes of quantised weights are kept."""

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("codes", torch.zeros(size, dtype=dtype))


def _apply(plan: Plan, choose: Choose) -> None:
    dtype = choose(Covered.of(known(RARE)))
    plan.add("Codes", size=choose((2, 3)), dtype=dtype)


FEATURE = Feature(
    name="rare-dtype",
    of="module",
    sentence="A buffer has a dtype that few loaders know: a small or unsigned integer, or bits.",
    references=("safetensors/safetensors#839", "huggingface/huggingface_hub#4901"),
    apply=_apply,
    factories=(Codes,),
)
