"""Faults of loads that copy or cast what can be neither, CKPT803: a class of tensors lacks it.

Apart from what is refused for what stands in the file: here it is the class of the tensors in
memory that does not go along.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import loader, resumer
from pytest_ckptload.faults.parts import read_state
from pytest_ckptload.faults.resumed import Resumed, read_payload
from pytest_ckptload.loader import Build, MakeOptimizer
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


class _Packed(torch.Tensor):
    """A weight that nothing can be copied into, and that converts to nothing else."""

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in (torch.Tensor.copy_, torch.Tensor.to):
            raise NotImplementedError(f"packed tensors have no {function.__name__}")
        return super().__torch_function__(function, types, args, kwargs)  # type: ignore[no-untyped-call]


class _PackedWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4).as_subclass(_Packed))


def assigns_packed_weights(build: Build, path: Path, device: torch.device) -> nn.Module:
    state = read_state(path, device)
    packed = {name: value.detach().clone().as_subclass(_Packed) for name, value in state.items()}
    module = build()
    module.load_state_dict(packed, assign=True)
    return module


@loader(
    "CKPT803",
    "pytorch/ao#456",
    sibling=assigns_packed_weights,
    given={"build": _PackedWeight, "reference": assigns_packed_weights},
)
def copies_into_packed_weights(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Weights are copied into a class of tensors that has no `copy_`."""
    module = build()
    module.load_state_dict(read_state(path, device))
    return module


def _packs_state(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device, kind: Any
) -> Resumed:
    payload = read_payload(path, device)
    module = built(build, device)
    module.load_state_dict(payload["model"])
    optimizer = make_optimizer(module)
    for state in payload["optimizer"]["state"].values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and key != "step":
                state[key] = value.as_subclass(kind)
    optimizer.load_state_dict(payload["optimizer"])
    return module, optimizer


def keeps_state_as_it_is(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    return _packs_state(build, make_optimizer, path, device, torch.Tensor)


@resumer("CKPT803", "pytorch/ao#1021", sibling=keeps_state_as_it_is, features=("scalar",))
def packs_state_that_is_cast(
    build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> Resumed:
    """State is packed into a class of tensors that has no `to`, and loading casts it."""
    return _packs_state(build, make_optimizer, path, device, _Packed)
