"""A buffer that construction computes from a parameter as it is initialised."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Derived(nn.Module):
    """A weight, and a buffer computed from it before anything is loaded."""

    def __init__(self, size: int, saved: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size))
        self.register_buffer("scale", self.weight.detach().abs() * 3 + 1, persistent=saved)


def _apply(plan: Plan, choose: Choose) -> None:
    saved = choose((True, False))
    plan.add("Derived", size=choose((2, 3)), **({} if saved else {"saved": False}))


FEATURE = Feature(
    name="buffer-from-parameter",
    of="module",
    sentence="A buffer is computed from a parameter at construction, and follows none afterwards.",
    references=("pytorch/pytorch#102212", "huggingface/diffusers#12719"),
    apply=_apply,
    factories=(Derived,),
)
