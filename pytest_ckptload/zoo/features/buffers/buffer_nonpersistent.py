"""A buffer that is not in the file and must come from construction, as rotary frequencies do."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _frequencies(size: int) -> torch.Tensor:
    exponents = torch.arange(size, dtype=torch.float32) / size
    return 1.0 / 10000.0**exponents


class Rotary(nn.Module):
    """A weight, and frequencies that no checkpoint holds."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.register_buffer("inv_freq", _frequencies(size), persistent=False)


class Frequencies(nn.Module):
    """Frequencies alone: a checkpoint holds nothing of this module."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", _frequencies(size), persistent=False)


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add(choose(("Rotary", "Frequencies")), size=choose((2, 3, 4)))


FEATURE = Feature(
    name="buffer-nonpersistent",
    of="module",
    sentence="A buffer is not in the file: its values come from construction.",
    references=("pytorch/pytorch#102212", "huggingface/transformers#48892"),
    apply=_apply,
    factories=(Rotary, Frequencies),
)
