"""A compiled module: the very module under a wrapper, and a prefix before its names."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def compiled(size: int, kind: str) -> nn.Module:
    """A small module, wrapped by ``torch.compile`` and never run."""
    module = nn.BatchNorm1d(size) if kind == "BatchNorm1d" else nn.Linear(size, size)
    return torch.compile(module, backend="eager")  # type: ignore[return-value]


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("compiled", size=choose((1, 2)), kind=choose(("Linear", "BatchNorm1d")))


FEATURE = Feature(
    name="compiled",
    of="module",
    sentence="A module is wrapped by torch.compile, which puts _orig_mod. before its names.",
    references=("pytorch/pytorch#123625", "pytorch/pytorch#113423"),
    apply=_apply,
    factories=(compiled,),
)
