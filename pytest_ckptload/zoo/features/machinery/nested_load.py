"""A module that loads weights of its own while it is built, as pretrained backbones do."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Pretrained(nn.Module):
    """A weight to be loaded, and a table that construction loads; ``saved`` or not in the file."""

    table: torch.Tensor

    def __init__(self, size: int, saved: bool, load: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.register_buffer("table", torch.zeros(size), persistent=saved)
        values = torch.arange(size, dtype=torch.float32, device="cpu") + 9.5
        if load == "copy_":
            self.table.copy_(values)
        else:
            self.backbone = nn.PReLU(size)
            with warnings.catch_warnings():
                # On meta this loads nothing, and torch says so.
                warnings.simplefilter("ignore")
                self.backbone.load_state_dict({"weight": values})
            self.table.copy_(self.backbone.weight.detach())


def _apply(plan: Plan, choose: Choose) -> None:
    saved, load = choose((False, True)), choose(("copy_", "load_state_dict"))
    plan.add("Pretrained", size=choose((2, 3)), saved=saved, load=load)


FEATURE = Feature(
    name="nested-load",
    of="module",
    sentence="A module loads values while it is built; the file holds those tensors or lacks them.",
    references=("huggingface/transformers#37615", "huggingface/transformers#36309"),
    apply=_apply,
    factories=(Pretrained,),
)
