"""A pruned weight: a hook computes it from a parameter and a mask, which is a buffer."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import prune

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def pruned(size: int, times: int) -> nn.Module:
    """A linear layer with every second weight masked out, once or in two steps."""
    module = nn.Linear(size, size, bias=False)
    for shift in range(times):
        mask = (torch.arange(size * size).reshape(size, size) + shift) % (2 + shift)
        prune.custom_from_mask(module, "weight", mask)  # type: ignore[no-untyped-call]
    return module


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("pruned", size=choose((2, 3)), times=choose((1, 2)))


FEATURE = Feature(
    name="pruned",
    of="module",
    sentence="A weight is pruned: a hook computes it from a parameter and a mask.",
    references=("pytorch/pytorch#30754",),
    apply=_apply,
    factories=(pruned,),
)
