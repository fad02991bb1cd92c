"""A module that loads by code of its own, which copies in place and so does nothing on meta."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class LoadsByCopy(nn.Module):
    """A weight that the module copies out of the state dict itself."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        """Copy a weight that fits; what is wrong with any other is for torch to say."""
        value = state_dict.get(prefix + "weight")
        if value is not None and value.shape == self.weight.shape:
            with torch.no_grad():
                self.weight.copy_(value)
        else:
            super()._load_from_state_dict(state_dict, prefix, *arguments)


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("LoadsByCopy", size=choose((1, 2, 3)))


FEATURE = Feature(
    name="custom-load",
    of="module",
    sentence="A module loads by code of its own, which copies in place: nothing, on meta.",
    references=("pytorch/pytorch#105963", "meta-pytorch/botorch#3080"),
    apply=_apply,
    factories=(LoadsByCopy,),
)
