"""A buffer without dimensions, as counters are."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Counter(nn.Module):
    """A weight, and a number that is kept as a buffer."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("steps", torch.tensor(0).to(dtype))


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("Counter", dtype=choose(("int64", "float32", "int32", "bool")))


FEATURE = Feature(
    name="buffer-scalar",
    of="module",
    sentence="A buffer has no dimensions.",
    references=("huggingface/peft#3676", "pytorch/pytorch#115285"),
    apply=_apply,
    factories=(Counter,),
)
