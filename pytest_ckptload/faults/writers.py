"""Faults of checkpoints: they do not hold what was to be saved, and no loader can mend that.

Apart from broken loaders because the one that reads these is right.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from pytest_ckptload.faults.fault import writer
from pytest_ckptload.faults.parts import loads_without_strict

__all__: list[str] = []


class TiedHead(nn.Module):
    """An embedding, and a head that is tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 2)
        self.head = nn.Linear(2, 3, bias=False)
        self.head.weight = self.embedding.weight


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def saves_everything(module: nn.Module, path: Path) -> None:
    torch.save(module.state_dict(), path)


@writer("CKPT101", "vllm-project/speculators#411", right=saves_everything, build=normed)
def saves_in_half_precision(module: nn.Module, path: Path) -> None:
    """All that is saved is cast to the model's dtype, and rounded."""
    state = module.state_dict()
    torch.save({k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}, path)


@writer(
    "CKPT803",
    "huggingface/accelerate#2875",
    "safetensors/safetensors#520",
    right=saves_everything,
    build=TiedHead,
)
def saves_shared_tensors_once(module: nn.Module, path: Path) -> None:
    """Of names that are one tensor the first is saved alone."""
    held: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        held.setdefault(id(tensor), name)
    state = module.state_dict()
    torch.save({name: state[name] for name in held.values()}, path)


@writer("CKPT803", "sgl-project/sglang#25332", right=saves_everything, build=normed)
def saves_the_wrapper(module: nn.Module, path: Path) -> None:
    """The module is saved in a wrapper, which puts a prefix before every name."""
    torch.save(nn.ModuleDict({"inner": module}).state_dict(), path)


@writer(
    "CKPT104",
    "pytorch/pytorch#119535",
    right=saves_everything,
    build=normed,
    load=loads_without_strict,
)
def renames_buffers(module: nn.Module, path: Path) -> None:
    """The prefix of a wrapper is taken from the names of parameters, and not from those of
    buffers.
    """
    buffers = dict(module.named_buffers())
    state = module.state_dict()
    torch.save({f"module.{k}" if k in buffers else k: v for k, v in state.items()}, path)


@writer("CKPT104", "pytorch/pytorch#84053", right=saves_everything, build=normed)
def saves_a_copy_of_the_buffers(module: nn.Module, path: Path) -> None:
    """Buffers are those of a copy that was made at construction, and follow no training."""
    state = module.state_dict()
    fresh = nn.BatchNorm1d(2).state_dict()
    buffers = {f"1.{name}": fresh[name] for name in ("running_mean", "running_var")}
    torch.save({**state, **buffers}, path)
