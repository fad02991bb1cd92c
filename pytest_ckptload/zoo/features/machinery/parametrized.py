"""A weight that is computed at each access, by a parametrization."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan


class Symmetric(nn.Module):
    """The upper triangle of a square matrix, and its mirror image."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The symmetric matrix."""
        upper = weight.triu()
        return upper + upper.triu(1).mT


def symmetric(size: int) -> nn.Module:
    """A linear layer whose weight is symmetric, by a parametrization of our own."""
    module = nn.Linear(size, size, bias=False)
    parametrize.register_parametrization(module, "weight", Symmetric())
    return module


def parametrized(size: int, by: str) -> nn.Module:
    """A linear layer whose weight is parametrized by one of torch's functions."""
    module = nn.Linear(size, size, bias=False)
    getattr(parametrizations, by)(module)
    return module


_WAYS = Covered.of(("symmetric", "weight_norm", "old names", "spectral_norm", "orthogonal"))


def _apply(plan: Plan, choose: Choose) -> None:
    by, size = choose(_WAYS), choose((2, 3))
    if by == "symmetric":
        plan.add("symmetric", size=size)
    elif by == "old names":
        prefix = plan.add("parametrized", size=size, by="weight_norm")
        plan.numbered = True
        for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
            plan.renamed[f"{prefix}parametrizations.weight.{new}"] = prefix + old
    else:
        plan.add("parametrized", size=size, by=by)


FEATURE = Feature(
    name="parametrized",
    of="module",
    sentence="A weight is computed by a parametrization: the file holds what it is computed from.",
    references=("huggingface/transformers#31970", "pytorch/pytorch#96409"),
    apply=_apply,
    factories=(Symmetric, symmetric, parametrized),
)
