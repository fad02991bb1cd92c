"""Complex parameters and buffers."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.machine.dtypes import COMPLEX, known
from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan


class Spectrum(nn.Module):
    """A complex parameter, and complex factors in a buffer."""

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size, dtype=dtype))
        self.register_buffer("factors", torch.zeros(size, dtype=dtype))


def _apply(plan: Plan, choose: Choose) -> None:
    dtype = choose(Covered.of(known(COMPLEX)))
    plan.add("Spectrum", size=choose((1, 2, 3)), dtype=dtype)


FEATURE = Feature(
    name="complex",
    of="module",
    sentence="A parameter and a buffer are complex.",
    references=("huggingface/huggingface_hub#4901", "pytorch/pytorch#126000"),
    apply=_apply,
    factories=(Spectrum,),
)
