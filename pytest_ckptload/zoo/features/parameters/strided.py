"""A Parameter that is not laid out in the order of its indices, or has gaps."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Strided(nn.Module):
    """A weight that is a transpose, or every other column, of the tensor it was made from."""

    def __init__(self, form: str) -> None:
        super().__init__()
        wide = torch.ones(2, 6)
        self.weight = nn.Parameter({"transposed": wide.t(), "gaps": wide[:, ::2]}[form])


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("Strided", form=choose(("transposed", "gaps")))


FEATURE = Feature(
    name="strided",
    of="module",
    sentence="A Parameter is transposed in memory, or has gaps.",
    references=("safetensors/safetensors#308", "tracel-ai/burn#5383"),
    apply=_apply,
    factories=(Strided,),
)
