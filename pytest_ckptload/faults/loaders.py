"""Loaders that give a wrong module, one for each way to be wrong, in the order of the rules that
catch them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from pytest_ckptload.faults.fault import Fault
from pytest_ckptload.faults.parts import (
    Change,
    assigned,
    keeps_everything,
    loads_without_strict,
    read_state,
)
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes import eager, mmap_meta_assign

__all__ = ["LOADER_FAULTS"]


def flips_a_bit(build: Build, path: Path, device: torch.device) -> nn.Module:
    def flip(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.numel() and tensor.dtype == torch.float32:
            tensor.view(-1)[-1:].view(torch.int32).bitwise_xor_(1)
        return tensor

    return assigned(build, path, device, flip)


def computes_buffers_again(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = assigned(build, path, device, lambda name, tensor: tensor)
    fresh = dict(build().named_buffers())
    for name, buffer in module.named_buffers():
        buffer.copy_(fresh[name])
    return module


def leaves_to_empty_unfilled(build: Build, path: Path, device: torch.device) -> nn.Module:
    state = read_state(path, device)
    with torch.device("meta"):
        module = build()
    module.to_empty(device=device)
    module.load_state_dict(state)
    return module


def loses_the_sign_of_zero(build: Build, path: Path, device: torch.device) -> nn.Module:
    return assigned(build, path, device, lambda name, t: t + 0.0 if t.dtype == torch.float32 else t)


def skips_biases(build: Build, path: Path, device: torch.device) -> nn.Module:
    state = {k: v for k, v in read_state(path, device).items() if not k.endswith("bias")}
    module = build().to(device)
    module.load_state_dict(state, strict=False)
    return module


def _replaced(build: Build, path: Path, device: torch.device, change: Change) -> nn.Module:
    """Load eagerly, then put what ``change`` makes of it in the place of each parameter's data."""
    module = eager(build, path, device)
    for name, parameter in module.named_parameters():
        parameter.data = change(name, parameter.data)
    return module


def casts_weights_to_half(build: Build, path: Path, device: torch.device) -> nn.Module:
    def cast(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.half() if tensor.dtype == torch.float32 else tensor

    return _replaced(build, path, device, cast)


def flattens(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _replaced(build, path, device, lambda name, tensor: tensor.reshape(-1))


def transposes_strides(build: Build, path: Path, device: torch.device) -> nn.Module:
    def transpose(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.t().contiguous().t() if tensor.dim() == 2 else tensor

    return _replaced(build, path, device, transpose)


def clones_parameters(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _replaced(build, path, device, lambda name, tensor: tensor.clone())


def makes_buffers_sparse(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.dim() == 1 and buffer.is_floating_point():
                part._buffers[name] = buffer.to_sparse()
    return module


def clones_buffers(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    made: dict[torch.Tensor, torch.Tensor] = {}
    for part in dict.fromkeys(module.modules()):
        for name, old in part._buffers.items():
            if old is not None:
                part._buffers[name] = made.setdefault(old, old.clone())
    return module


def forgets_frozen(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return module


def drops_subclasses(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    _parameters_anew(module, lambda old: nn.Parameter(old.data, requires_grad=old.requires_grad))
    return module


def _same_type(old: nn.Parameter) -> nn.Parameter:
    return type(old)(old.data, requires_grad=old.requires_grad)


def keeps_subclasses(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    _parameters_anew(module, _same_type)
    return module


def _parameters_anew(module: nn.Module, make: Callable[[nn.Parameter], nn.Parameter]) -> None:
    """Replace every parameter once, ties kept."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for part in dict.fromkeys(module.modules()):
        for name, old in list(part._parameters.items()):
            if old is not None:
                if old not in made:
                    made[old] = make(old)
                setattr(part, name, made[old])


def deletes_unsaved_buffers(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    for part in module.modules():
        for name in list(part._non_persistent_buffers_set):
            delattr(part, name)
    return module


def registers_what_the_file_holds(build: Build, path: Path, device: torch.device) -> nn.Module:
    state = read_state(path, device)
    module = build().to(device)
    for name in module.load_state_dict(state, strict=False).unexpected_keys:
        module.register_parameter(name.replace(".", "_"), nn.Parameter(state[name]))
    return module


def copies_into_meta(build: Build, path: Path, device: torch.device) -> nn.Module:
    state = read_state(path, device)
    with torch.device("meta"):
        module = build()
    module.load_state_dict(state)
    return module


def makes_every_buffer_persistent(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    for part in module.modules():
        part._non_persistent_buffers_set.clear()
    return module


def returns_eval(build: Build, path: Path, device: torch.device) -> nn.Module:
    return eager(build, path, device).eval()


def ties_by_hand(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Map, copy into the module's own parameters: ties hold, since they are one object."""
    return keeps_everything(build, path, device)


def unties(build: Build, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    for part in module.modules():
        for name, old in list(part._parameters.items()):
            if old is not None:
                setattr(part, name, _same_type(old))
    return module


def backs_all_by_one_buffer(build: Build, path: Path, device: torch.device) -> nn.Module:
    """One flat buffer for each dtype behind the parameters, side by side: independent all the
    same.
    """
    return _flat(build, path, device, gap=0)


def overlaps_in_one_buffer(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _flat(build, path, device, gap=-1)


def _flat(build: Build, path: Path, device: torch.device, gap: int) -> nn.Module:
    module = eager(build, path, device)
    by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.is_contiguous():
            by_dtype.setdefault(parameter.dtype, []).append(parameter)
    for dtype, parameters in by_dtype.items():
        buffer = torch.zeros(sum(p.numel() for p in parameters), dtype=dtype, device=device)
        offset = 0
        for parameter in parameters:
            part = buffer[offset : offset + parameter.numel()]
            part.copy_(parameter.data.view(-1))
            parameter.data = part.view(parameter.shape)
            offset = max(0, offset + parameter.numel() + gap)
    return module


# What new tensors in the place of the old ones come apart from.
_HELD = ("alias-attribute", "view-parameter")

LOADER_FAULTS = (
    Fault("CKPT101", flips_a_bit, keeps_everything, ("tracel-ai/burn#5383",)),
    Fault(
        "CKPT102", leaves_to_empty_unfilled, keeps_everything, ("huggingface/transformers#45902",)
    ),
    Fault("CKPT103", loses_the_sign_of_zero, keeps_everything, ("safetensors/safetensors#831",)),
    Fault("CKPT104", skips_biases, loads_without_strict, ("huggingface/transformers#37615",)),
    Fault(
        "CKPT104",
        computes_buffers_again,
        keeps_everything,
        ("RobTand/prismaquant#968", "huggingface/transformers#24576"),
    ),
    Fault(
        "CKPT201",
        casts_weights_to_half,
        clones_parameters,
        ("pytorch/pytorch#126000",),
        beyond=_HELD,
    ),
    Fault("CKPT202", flattens, clones_parameters, ("pytorch/pytorch#126604",), beyond=_HELD),
    Fault(
        "CKPT203",
        transposes_strides,
        clones_parameters,
        ("safetensors/safetensors#308",),
        beyond=_HELD,
    ),
    Fault("CKPT204", makes_buffers_sparse, clones_buffers, ("pytorch/pytorch#134953",)),
    Fault("CKPT206", forgets_frozen, eager, ("pytorch/torchtitan#3886",)),
    Fault(
        "CKPT207", drops_subclasses, keeps_subclasses, ("vllm-project/vllm#34201",), beyond=_HELD
    ),
    Fault("CKPT301", deletes_unsaved_buffers, eager, ("huggingface/transformers#25555",)),
    Fault(
        "CKPT302",
        registers_what_the_file_holds,
        loads_without_strict,
        ("pytorch/pytorch#123625",),
    ),
    Fault("CKPT303", copies_into_meta, keeps_everything, ("pytorch/pytorch#105963",)),
    Fault("CKPT303", mmap_meta_assign, keeps_everything, ("pytorch/pytorch#102212",)),
    Fault("CKPT304", makes_every_buffer_persistent, eager, ("huggingface/transformers#24576",)),
    Fault("CKPT307", returns_eval, eager, ("huggingface/transformers#25555",), advice=True),
    Fault("CKPT401", unties, keeps_subclasses, ("pytorch/pytorch#188346",), beyond=_HELD),
    Fault(
        "CKPT402",
        overlaps_in_one_buffer,
        backs_all_by_one_buffer,
        ("huggingface/accelerate#4083",),
        beyond=_HELD,
    ),
)
