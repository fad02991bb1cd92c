"""A module that construction leaves in evaluation mode, as a whole or in part."""

from __future__ import annotations

from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def evaluate(module: nn.Module, path: str = "") -> None:
    """Put the part called ``path``, or the whole module, into evaluation mode."""
    module.get_submodule(path).eval()


def _apply(plan: Plan, choose: Choose) -> None:
    form = choose(("whole", "part"))
    prefix = plan.add("BatchNorm1d", num_features=choose((1, 2)))
    if form == "part":
        plan.add("PReLU", num_parameters=1)
        plan.edit("evaluate", path=prefix.rstrip("."))
    else:
        plan.edit("evaluate")


FEATURE = Feature(
    name="eval-mode",
    of="module",
    sentence="A module, or a part of it, is in evaluation mode from construction on.",
    references=("soran-ghaderi/torchebm#303", "XuehaiPan/Soft-Actor-Critic#1"),
    apply=_apply,
    factories=(evaluate,),
)
