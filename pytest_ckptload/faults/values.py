"""Faults of values, CKPT1xx: entries that are misread, converted on the way, left out or replaced.

Apart from what else can be wrong with a tensor: here it is as it should be, but for its contents.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from torch import nn

from pytest_ckptload.faults.fault import after, loader
from pytest_ckptload.faults.parts import (
    PLAIN,
    assigned,
    keeps_everything,
    read_state,
)
from pytest_ckptload.loader import Build

__all__: list[str] = []


def flips_a_bit_twice(module: nn.Module) -> None:
    flips_a_bit(module)
    flips_a_bit(module)


@after("CKPT101", right=flips_a_bit_twice, features=("scalar",))
def flips_a_bit(module: nn.Module) -> None:
    """The last bit of each parameter changes on the way."""
    for parameter in module.parameters():
        if parameter.numel() and parameter.dtype == torch.float32 and parameter.is_contiguous():
            parameter.data.view(-1)[-1:].view(torch.int32).bitwise_xor_(1)


@loader("CKPT101", "tracel-ai/burn#5383", sibling=keeps_everything, features=("noncontiguous",))
def reads_storages_in_order(build: Build, path: Path, device: torch.device) -> nn.Module:
    """A storage is read from one end to the other, whatever the strides of the entry."""

    def in_order(name: str, tensor: torch.Tensor) -> torch.Tensor:
        entry = state[name]
        if entry.layout != torch.strided:
            return tensor
        stored = entry.as_strided(
            (entry.untyped_storage().nbytes() // entry.element_size(),), (1,), 0
        )[entry.storage_offset() :][: entry.numel()]
        return stored.view(entry.shape) if stored.numel() == entry.numel() else tensor

    state = read_state(path, device)
    return assigned(build, path, device, in_order)


@loader("CKPT101", "tinygrad/tinygrad#14771", sibling=keeps_everything, features=("views",))
def forgets_offsets(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Each entry is read from the beginning of the storage that it shares with others."""
    state = read_state(path, device)

    def from_the_start(name: str, tensor: torch.Tensor) -> torch.Tensor:
        entry = state[name]
        if entry.layout != torch.strided:
            return tensor
        return entry.as_strided(entry.shape, entry.stride(), 0)

    return assigned(build, path, device, from_the_start)


@loader(
    "CKPT101",
    "safetensors/safetensors#831",
    "pytorch/pytorch#81690",
    sibling=keeps_everything,
    features=("conj-neg",),
)
def drops_the_conjugate_bit(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The bytes of an entry are taken for its values, though its conjugate or negative bit is
    set.
    """
    state = read_state(path, device)

    def raw(name: str, tensor: torch.Tensor) -> torch.Tensor:
        entry = state[name]
        if entry.is_conj():
            return entry.conj()
        return entry._neg_view() if entry.is_neg() else entry

    return assigned(build, path, device, raw)


@loader(
    "CKPT101",
    "pytorch/pytorch#101688",
    "safetensors/safetensors#448",
    features=("byteorder",),
    promises=("formats",),
)
def assumes_the_native_order(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The byte order that the file names is not looked at."""

    def as_stored(name: str, tensor: torch.Tensor) -> torch.Tensor:
        size = tensor.element_size() // (2 if tensor.is_complex() else 1)
        octets = tensor.contiguous().view(-1).view(torch.uint8).view(-1, size)
        return octets.flip(1).reshape(-1).view(tensor.dtype).view(tensor.shape)

    with zipfile.ZipFile(path) as archive:
        order = next((n for n in archive.namelist() if n.endswith("/byteorder")), None)
        native = order is None or archive.read(order) == b"little"
    return assigned(build, path, device, (lambda _, t: t) if native else as_stored)


def _detour(module: nn.Module, kept: torch.dtype, over: torch.dtype) -> None:
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dtype == kept and tensor.layout == torch.strided:
            tensor.data.copy_(tensor.data.to(over).to(kept))


def keeps_integers_in_wider_ones(module: nn.Module) -> None:
    _detour(module, torch.int8, torch.int64)


@after(
    "CKPT101",
    "huggingface/transformers#46849",
    right=keeps_integers_in_wider_ones,
    features=("integer-parameters",),
)
def rounds_integers(module: nn.Module) -> None:
    """Integers are kept in the model's own dtype for a while, which does not hold all of them."""
    _detour(module, torch.int64, torch.bfloat16)


@after(
    "CKPT101",
    "facebookresearch/fairscale#50",
    "vllm-project/speculators#411",
    features=("scalar",),
)
def rounds_to_half(module: nn.Module) -> None:
    """Floating tensors are cast to half precision, and back again."""
    _detour(module, torch.float32, torch.float16)


@after("CKPT103", "huggingface/accelerate#454", features=("low-precision",))
def goes_through_float32(module: nn.Module) -> None:
    """Dtypes that numpy does not know are stored as float32 for a while: numbers stay as they are,
    payloads of NaN do not.
    """
    _detour(module, torch.bfloat16, torch.float32)


@after("CKPT103", given=PLAIN)
def loses_the_sign_of_zero(module: nn.Module) -> None:
    """Arithmetic that changes no number: a negative zero is none afterwards."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dtype == torch.float32 and tensor.layout == torch.strided:
            tensor.data.add_(0.0)


class Averaged(nn.Module):
    """Weights, and their average over time, which is saved beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 1, bias=False)
        self.average = nn.Linear(2, 1, bias=False)


@loader("CKPT101", "m2lines/Samudra#313", given={"build": Averaged})
def begins_the_average_anew(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The average of the weights over time is begun anew, from the weights that were loaded."""
    module = keeps_everything(build, path, device)
    module.get_submodule("average").load_state_dict(module.get_submodule("inner").state_dict())
    return module
