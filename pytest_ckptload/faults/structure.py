"""Faults of structure, CKPT3xx: names, kinds, order and hooks, and what is left on meta.

Apart from what is wrong with a tensor: here it is the module that differs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import after, around, loader
from pytest_ckptload.faults.parts import (
    HELD,
    buffers_of,
    clones_parameters,
    keeps_everything,
    loads_without_strict,
    parameters_anew,
    read_state,
    same_type,
)
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


def rebuilds_tables(module: nn.Module) -> None:
    for part, name, buffer in buffers_of(module):
        if name in part._non_persistent_buffers_set:
            part.register_buffer(name, buffer, persistent=False)


@after(
    "CKPT301",
    "macwiatrak/Bacformer#33",
    right=rebuilds_tables,
    features=("buffer-nonpersistent",),
)
def never_rebuilds_tables(module: nn.Module) -> None:
    """Buffers that no file holds are not there after the load."""
    for part, name, _ in list(buffers_of(module)):
        if name in part._non_persistent_buffers_set:
            delattr(part, name)


@around("CKPT301", "sgl-project/sglang#25332", "pytorch/pytorch#113423", features=("scalar",))
def returns_the_wrapper(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """The module is returned in a wrapper, which puts a prefix before every name."""
    wrapper = nn.Module()
    wrapper.module = load(build, path, device)
    return wrapper


@loader("CKPT302", "pytorch/pytorch#119535", sibling=loads_without_strict, features=("extra-key",))
def registers_what_the_file_holds(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Entries that the module has no name for are registered in it."""
    state = read_state(path, device)
    module = built(build, device)
    for name in module.load_state_dict(state, strict=False).unexpected_keys:
        module.register_parameter(name.replace(".", "_"), nn.Parameter(state[name]))
    return module


@after("CKPT302", features=("scalar",))
def counts_in_a_buffer(module: nn.Module) -> None:
    """The loader leaves a buffer of its own in the module, which the next checkpoint holds."""
    module.register_buffer("loads", torch.zeros(1))


@loader("CKPT303", "pytorch/pytorch#105963", sibling=keeps_everything, features=("scalar",))
def copies_into_meta(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The module is built on meta, and copied into: that does nothing, in silence."""
    state = read_state(path, device)
    with torch.device("meta"):
        module = build()
    module.load_state_dict(state)
    return module


@loader(
    "CKPT303",
    "urchade/GLiNER#355",
    "huggingface/diffusers#12009",
    sibling=loads_without_strict,
    features=("missing-key",),
)
def assigns_what_there_is(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The module is built on meta, and what the file holds is assigned: the others stay there."""
    with torch.device("meta"):
        module = build()
    module.load_state_dict(read_state(path, device), strict=False, assign=True)
    return module


@after(
    "CKPT303",
    "huggingface/transformers#25555",
    "huggingface/accelerate#1710",
    right=rebuilds_tables,
    features=("buffer-nonpersistent",),
)
def leaves_tables_on_meta(module: nn.Module) -> None:
    """Buffers that no file holds stay on meta, where the module was built."""
    for part, name, buffer in buffers_of(module):
        if name in part._non_persistent_buffers_set:
            part._buffers[name] = buffer.to("meta")


@after("CKPT303", "huggingface/diffusers#12719", features=("plain-attribute",))
def leaves_attributes_on_meta(module: nn.Module) -> None:
    """Tensors that are neither parameters nor buffers stay on meta, where the module was built."""
    for part in module.modules():
        for name, value in vars(part).items():
            if type(value) is torch.Tensor:
                vars(part)[name] = value.to("meta")
            elif type(value) in (list, dict):
                for key in range(len(value)) if type(value) is list else list(value):
                    if type(value[key]) is torch.Tensor:
                        value[key] = value[key].to("meta")


@after("CKPT304", right=rebuilds_tables, features=("buffer-nonpersistent",))
def makes_every_buffer_persistent(module: nn.Module) -> None:
    """Buffers are registered anew, and each of them goes into the next checkpoint."""
    for part in module.modules():
        part._non_persistent_buffers_set.clear()


@after(
    "CKPT304",
    "pytorch/pytorch#102212",
    features=("buffer-computed",),
)
def makes_buffers_parameters(module: nn.Module) -> None:
    """What the file holds is assigned as it stands there: a buffer becomes a parameter."""
    for part, name, buffer in list(buffers_of(module)):
        if name not in part._non_persistent_buffers_set:
            del part._buffers[name]
            part.register_parameter(name, nn.Parameter(buffer, requires_grad=False))


@after(
    "CKPT305",
    "roytseng-tw/Detectron.pytorch#118",
    "facebookresearch/fairscale#380",
    features=("mixed-dtype",),
)
def registers_in_another_order(module: nn.Module) -> None:
    """Names are registered as a set has them, not as the module does."""
    for part in module.modules():
        _reverse(part._parameters)
        _reverse(part._modules)


def _reverse(held: dict[str, Any]) -> None:
    for name in sorted(held, reverse=True):
        held[name] = held.pop(name)


@after("CKPT306", "Lightning-AI/pytorch-lightning#20119", features=("scalar",))
def swaps_classes(module: nn.Module) -> None:
    """Parts are swapped for those of another class, as quantised ones are."""
    for part in module.modules():
        part.__class__ = type(f"Quantised{type(part).__name__}", (type(part),), {})


@after("CKPT307", advice=True, features=("scalar",))
def returns_eval(module: nn.Module) -> None:
    """The module is returned in evaluation mode."""
    module.eval()


@around("CKPT308", features=("extra-state",))
def ignores_extra_state(load: Any, build: Build, path: Path, device: torch.device) -> nn.Module:
    """Tensors are loaded, and what else a part saves by itself is not."""
    module: nn.Module = load(build, path, device)
    for part, fresh in zip(module.modules(), build().modules(), strict=True):
        if type(part).get_extra_state is not nn.Module.get_extra_state:
            part.set_extra_state(fresh.get_extra_state())
    return module


@after(
    "CKPT309",
    "axolotl-ai-cloud/axolotl#3977",
    right=clones_parameters,
    features=("parameter-hooks",),
    beyond=HELD,
)
def loses_hooks(module: nn.Module) -> None:
    """Parameters are registered anew, without the hooks on their gradients."""
    parameters_anew(module, same_type)
