"""A convolution whose weight has its channels last in memory."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def channels_last(module: nn.Module, name: str) -> None:
    """Lay the parameter ``name`` out with its channels last."""
    parameter = module.get_parameter(name)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])


def _apply(plan: Plan, choose: Choose) -> None:
    kind = choose(("Conv2d", "ConvTranspose2d", "Conv3d"))
    prefix = plan.add(kind, in_channels=2, out_channels=2, kernel_size=2, bias=False)
    plan.edit("channels_last", name=prefix + "weight")


FEATURE = Feature(
    name="channels-last",
    of="module",
    sentence="The weight of a convolution has its channels last in memory.",
    references=("safetensors/safetensors#308", "Comfy-Org/ComfyUI#3923"),
    apply=_apply,
    factories=(channels_last,),
)
