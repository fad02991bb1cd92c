"""Parameters whose names mean something to loaders that rename by a part of the name."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan


class Paths(nn.Module):
    """A parameter at each of these paths, in modules made for the purpose."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        super().__init__()
        for path in paths:
            *parts, name = path.split(".")
            holder: nn.Module = self
            for part in parts:
                if part not in holder._modules:
                    holder.add_module(part, nn.Module())
                holder = holder.get_submodule(part)
            holder.register_parameter(name, nn.Parameter(torch.ones(2)))


_PATHS = Covered.of(
    (
        ("gamma", "beta"),
        # What wrappers put before all names, as the name of a part, and as the end of one.
        ("module.weight",),
        ("submodule.weight",),
        ("language_model.weight",),
        # One part inside another of the same name.
        ("block.block.weight",),
        # A name that another one begins with, and one that differs by case alone.
        ("head.weight", "head_norm.weight"),
        ("Norm.weight", "norm.weight"),
    )
)


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("Paths", paths=choose(_PATHS))


FEATURE = Feature(
    name="telling-names",
    of="module",
    sentence="Names have parts that loaders rename, or take for a prefix, elsewhere.",
    references=(
        "huggingface/transformers#29554",
        "nerfstudio-project/nerfstudio#1567",
        "meta-pytorch/torchrec#961",
    ),
    apply=_apply,
    factories=(Paths,),
)
