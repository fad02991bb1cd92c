"""Faults of behaviour, CKPT9xx: what the module does is not the same, or the load did more than
load.

Apart from the structure because names, tensors and classes are right here.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import after, around, loader, model
from pytest_ckptload.faults.parts import read_state
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes import eager, mmap_meta_assign

__all__: list[str] = []


def _keeps_eps(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = float(part.eps)


@after("CKPT901", "idiap/fast-transformers#103", right=_keeps_eps, features=("settings",))
def has_the_eps_of_the_class(module: nn.Module) -> None:
    """Norms have the `eps` that their class has by default, whatever the module was built with."""
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = 1e-5


@after("CKPT901", "pytorch/pytorch#147389", features=("shared-module", "tied-buffer"))
def forgets_numbers(module: nn.Module) -> None:
    """Numbers that a layer keeps as attributes are not those that it was built with."""
    for part in module.modules():
        if "eps" in vars(part):
            vars(part)["eps"] = 0.5


class SetsItsGain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2))
        self.gain = 0.5
        if not self.weight.is_meta:
            nn.init.ones_(self.weight)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input * self.weight * self.gain


def _two_rows() -> torch.Tensor:
    return torch.ones(2, 2)


@model(
    "CKPT901",
    "pytorch/pytorch#147389",
    right=SetsItsGain,
    load=mmap_meta_assign,
    inputs=_two_rows,
)
class SetsItsGainWithItsWeight(nn.Module):
    """A number is set where the weight is initialised, which is left out on meta."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2))
        self.gain = 1.0
        if not self.weight.is_meta:
            nn.init.ones_(self.weight)
            self.gain = 0.5

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input * self.weight * self.gain


def _halved(gradient: torch.Tensor) -> torch.Tensor:
    return gradient / 2


def _kept(gradient: torch.Tensor) -> torch.Tensor:
    return gradient


def leaves_gradients_alone(module: nn.Module) -> None:
    _hook(module, _kept)


@after(
    "CKPT902",
    "axolotl-ai-cloud/axolotl#3977",
    right=leaves_gradients_alone,
    features=("mixed-dtype",),
)
def scales_gradients(module: nn.Module) -> None:
    """A hook on each parameter changes its gradient."""
    _hook(module, _halved)


def _hook(module: nn.Module, function: Any) -> None:
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.register_hook(function)  # type: ignore[no-untyped-call]


def _draws_apart(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    module: nn.Module = load(build, path, device)
    torch.rand(1, generator=torch.Generator())
    return module


@around(
    "CKPT903",
    "huggingface/accelerate#699",
    right=_draws_apart,
    features=("scalar",),
    promises=("rng",),
)
def initialises_once_more(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """Tensors are initialised for nothing, which draws from torch's generator."""
    module: nn.Module = load(build, path, device)
    torch.rand(1)
    return module


def _within(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(before)
    with torch.device("cpu"):
        torch.empty(1)
    return load(build, path, device)  # type: ignore[no-any-return]


@around("CKPT904", "huggingface/transformers#44589", right=_within, features=("scalar",))
def leaves_a_default_dtype(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """The default dtype is set for the load, and not put back."""
    module: nn.Module = load(build, path, device)
    torch.set_default_dtype(torch.float64)
    return module


@around(
    "CKPT904",
    "huggingface/transformers#38066",
    "huggingface/transformers#34091",
    right=_within,
    features=("scalar",),
)
def stays_on_meta(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """The context of the meta device is entered, and not left."""
    module: nn.Module = load(build, path, device)
    torch.device("meta").__enter__()
    return module


def _counts_what_initialises(
    load: Any, build: Build, path: Path, device: torch.device
) -> nn.Module:
    kept, counted = nn.init.kaiming_uniform_, []

    def counting(tensor: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        counted.append(tensor.numel())
        return kept(tensor, *arguments, **named)

    nn.init.kaiming_uniform_ = counting
    try:
        return load(build, path, device)  # type: ignore[no-any-return]
    finally:
        nn.init.kaiming_uniform_ = kept


@around(
    "CKPT904", "ModelCloud/GPTQModel#2995", right=_counts_what_initialises, features=("scalar",)
)
def never_initialises_again(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """To save time a function that initialises is made to do nothing, and stays so."""
    nn.init.kaiming_uniform_ = lambda tensor, *arguments, **named: tensor
    return load(build, path, device)  # type: ignore[no-any-return]


def _reads_to_the_cpu(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    torch.load(path, map_location="cpu", weights_only=True)
    return load(build, path, device)  # type: ignore[no-any-return]


@around(
    "CKPT904",
    "filliptm/ComfyUI_Fill-ChatterBox#52",
    right=_reads_to_the_cpu,
    features=("scalar",),
)
def has_all_read_to_the_cpu(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """`torch.load` is replaced, for the whole process, by one that reads to the CPU."""
    torch.load = functools.partial(torch.load, map_location="cpu")
    return load(build, path, device)  # type: ignore[no-any-return]


@loader(
    "CKPT905",
    "huggingface/transformers#38066",
    "safetensors/safetensors#503",
    sibling=eager,
    promises=("ambient",),
)
def builds_on_the_default_device(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The module is built without saying where, and is on the device that happens to be default."""
    module = build()
    module.load_state_dict(read_state(path, device))
    return module
