"""Faults of devices: tensors that end elsewhere, or otherwise, than where and what they should.

Apart because they take a device other than the CPU to show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import after, around, loader
from pytest_ckptload.faults.parts import buffers_of, parameters_anew
from pytest_ckptload.loader import Build, Loader
from pytest_ckptload.recipes import eager
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []

_CPU = torch.device("cpu")


def _other(device: torch.device, index: int) -> torch.device:
    return torch.device(device.type, index) if device.type != "cpu" else device


@around("CKPT205", "Lightning-AI/pytorch-lightning#17308", elsewhere=True)
def forgets_the_index(load: Loader, build: Build, path: Path, device: torch.device) -> nn.Module:
    """Whatever index is asked for, the module is on the first."""
    return load(build, path, _other(device, 0))


@around("CKPT205", "pytorch/pytorch#82412", elsewhere=True)
def takes_the_other_index(
    load: Loader, build: Build, path: Path, device: torch.device
) -> nn.Module:
    """The index that the file is tagged with wins over the one that is asked for."""
    return load(build, path, _other(device, 1 - (device.index or 0)))


@around("CKPT205", "Lightning-AI/pytorch-lightning#17308", elsewhere=True)
def stays_on_the_cpu(load: Loader, build: Build, path: Path, device: torch.device) -> nn.Module:
    """The module is built on the CPU and copied into there."""
    return load(build, path, torch.device("cpu"))


def _device_of(module: nn.Module) -> torch.device:
    tensors = (*module.parameters(), *module.buffers())
    return next((t.device for t in tensors if t.device.type not in ("cpu", "meta")), _CPU)


@after(
    "CKPT205",
    "huggingface/peft#2113",
    "huggingface/diffusers#10523",
    features=("tied-buffer",),
    elsewhere=True,
)
def leaves_buffers_on_the_cpu(module: nn.Module) -> None:
    """Parameters are moved, and buffers are not."""
    for part, name, buffer in buffers_of(module):
        part._buffers[name] = buffer.cpu()


@after("CKPT205", "huggingface/accelerate#938", features=("plain-attribute",), elsewhere=True)
def leaves_attributes_on_the_cpu(module: nn.Module) -> None:
    """What `Module.to` does not know of stays on the CPU."""
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                setattr(part, name, value.cpu())


def moves_what_is_tied_once(module: nn.Module) -> None:
    """Each parameter is moved, and put under all of its names."""
    parameters_anew(module, _moved)


@after("CKPT401", "pytorch/pytorch#188346", features=("tied",), elsewhere=True)
def moves_each_name(module: nn.Module) -> None:
    """Each name gets a Parameter of its own on the device, as `Module.to` does on some."""
    for part in module.modules():
        for name, old in list(part._parameters.items()):
            if old is not None:
                setattr(part, name, _moved(old))


def _moved(old: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(old.detach().cpu().to(old.device), requires_grad=old.requires_grad)


def copies_the_whole(module: nn.Module) -> None:
    """Every tensor goes to the CPU and back: right."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.cpu())


@after("CKPT101", "NVIDIA/TransformerEngine#2974", right=copies_the_whole, elsewhere=True)
def loses_a_bit_on_the_way(module: nn.Module) -> None:
    """The transfer loses the last bit of every value."""
    if _device_of(module) == _CPU:
        return
    with torch.no_grad():
        for parameter in module.parameters():
            host = parameter.detach().cpu().contiguous()
            if host.numel() and host.dtype != torch.bool:
                host.view(-1).view(torch.uint8)[:: host.element_size()].bitwise_and_(0xFE)
                parameter.copy_(host)


def _through_one_buffer(build: Build, path: Path, device: torch.device, wait: bool) -> nn.Module:
    module = eager(build, path, device)
    floats = [p for p in module.parameters() if p.dtype == torch.float32 and p.numel()]
    staging = torch.empty(max((p.numel() for p in floats), default=0), device="cpu")
    pending = []
    with torch.no_grad():
        for parameter in floats:
            part = staging[: parameter.numel()].view(parameter.shape)
            part.copy_(parameter)
            pending.append((parameter, part))
            if wait:
                parameter.copy_(part)
        for parameter, part in () if wait or device == _CPU else pending:
            parameter.copy_(part)
    return module


def stages_and_waits(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Each copy is done before the staging buffer is filled again."""
    return _through_one_buffer(build, path, device, wait=True)


@loader("CKPT101", "NVIDIA/TransformerEngine#2974", sibling=stages_and_waits, elsewhere=True)
def fills_the_staging_buffer_again(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Copies that do not block read a staging buffer which holds the next tensor by then."""
    return _through_one_buffer(build, path, device, wait=False)


@after("CKPT201", "pytorch/torchtitan#4615", features=("low-precision",), elsewhere=True)
def promotes_on_the_device(module: nn.Module) -> None:
    """What the device computes in half precision is kept in single."""
    if _device_of(module) == _CPU:
        return
    halves = (torch.float16, torch.bfloat16)
    parameters_anew(module, lambda p: nn.Parameter(p.detach().float()) if p.dtype in halves else p)


_KEPT: list[Any] = []


def lets_go(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The file's tensors are on the device until the module has theirs."""
    state = torch.load(path, map_location=device, weights_only=True, mmap=True)
    module = built(build, device)
    module.load_state_dict(state)
    return module


@loader(
    "CKPT602",
    "espnet/espnet#5615",
    "pytorch/pytorch#25892",
    sibling=lets_go,
    elsewhere=True,
)
def keeps_two_copies(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The state dict stays on the device beside the module."""
    _KEPT[:] = [torch.load(path, map_location=device, weights_only=True, mmap=True)]
    return lets_go(build, path, device)


def moves_through_one_copy(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Each tensor is copied once more on the device, and let go before the next: right."""
    module = lets_go(build, path, device)
    for parameter in module.parameters():
        parameter.detach().clone()
    return module


@loader("CKPT602", "pytorch/pytorch#25892", sibling=moves_through_one_copy, elsewhere=True)
def copies_once_more(build: Build, path: Path, device: torch.device) -> nn.Module:
    """All tensors are copied once more on the device, and are there at the same time."""
    state = torch.load(path, map_location=device, weights_only=True, mmap=True)
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    copies = [tensor.detach().clone() for tensor in tensors * 2]
    module = lets_go(build, path, device)
    del copies
    return module


@after("CKPT506", "pytorch/pytorch#80809", training=True, features=("scalar",), elsewhere=True)
def leaves_state_on_the_cpu(module: nn.Module, optimizer: Any) -> None:
    """The moments of parameters on a device are read to the CPU, and stay there."""
    for state in optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and key != "step":
                state[key] = value.cpu()
