"""One buffer under several names, in one module or across two."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class TwoBuffers(nn.Module):
    """A weight, and one table that is registered twice."""

    def __init__(self, size: int, saved: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        table = torch.arange(size) + 0.5
        self.register_buffer("table", table)
        self.register_buffer("twin", table, persistent=saved)


def tie_buffer(module: nn.Module, source: str, target: str) -> None:
    """Make the buffer ``target`` the very tensor that ``source`` is."""
    owner, _, name = target.rpartition(".")
    module.get_submodule(owner)._buffers[name] = module.get_buffer(source)


def _apply(plan: Plan, choose: Choose) -> None:
    form = choose(("within", "unsaved", "across"))
    if form == "across":
        first = plan.add("BatchNorm1d", num_features=2)
        second = plan.add("BatchNorm1d", num_features=2)
        plan.edit("tie_buffer", source=first + "running_mean", target=second + "running_mean")
    else:
        saved = {} if form == "within" else {"saved": False}
        plan.add("TwoBuffers", size=choose((2, 3)), **saved)
    plan.ties = choose(("shared", "separate", "differ"))


FEATURE = Feature(
    name="tied-buffer",
    of="module",
    sentence="One buffer stands under several names, in one module or across two.",
    references=("pytorch/pytorch#188346", "huggingface/accelerate#3668"),
    apply=_apply,
    factories=(TwoBuffers, tie_buffer),
)
