"""Faults of tensors, CKPT2xx: everything about them but values and names.

Apart from what is wrong with values: here they are right, once they are looked at in the dtype and
the shape that they should have.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from pytest_ckptload.faults.fault import after, around, loader
from pytest_ckptload.faults.parts import (
    ANEW,
    HELD,
    PLAIN,
    buffers_of,
    clones_parameters,
    keeps_everything,
    parameters_anew,
    read_state,
    registers_anew,
)
from pytest_ckptload.loader import Build, Loader
from pytest_ckptload.recipes import eager
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


@after(
    "CKPT201",
    "huggingface/transformers#44589",
    right=clones_parameters,
    features=("mixed-dtype",),
    beyond=HELD,
)
def guesses_one_dtype(module: nn.Module) -> None:
    """All parameters are cast to the dtype of the first."""
    dtypes = [p.dtype for p in module.parameters() if p.is_floating_point()]
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtypes[0])


def _casts_everything(build: Build, path: Path, device: torch.device) -> nn.Module:
    return eager(build, path, device, dtype=torch.bfloat16)


_CASTING = {"dtype": torch.bfloat16}


@loader(
    "CKPT201",
    "huggingface/transformers#30709",
    sibling=_casts_everything,
    features=("buffer-computed",),
    given=_CASTING,
    beyond=(*HELD, "tied-buffer"),
)
def leaves_buffers_in_float32(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Parameters are cast to the dtype that was asked for, buffers are not."""
    module = eager(build, path, device)
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.bfloat16)
    return module


def _clones_buffers(module: nn.Module) -> None:
    made: dict[torch.Tensor, torch.Tensor] = {}
    for part, name, buffer in buffers_of(module):
        part._buffers[name] = made.setdefault(buffer, buffer.clone())


@after(
    "CKPT201",
    "huggingface/transformers#18471",
    right=_clones_buffers,
    features=("buffer-computed",),
    beyond=HELD,
)
def casts_masks(module: nn.Module) -> None:
    """Every buffer is cast to half precision, masks and counters as well."""
    for part, name, buffer in buffers_of(module):
        if not (buffer.is_floating_point() or buffer.is_complex()) and buffer.itemsize in (1, 4, 8):
            part._buffers[name] = buffer.half()


_COPYING = {"semantics": "copy"}


@loader(
    "CKPT201",
    "mosaicml/llm-foundry#916",
    sibling=keeps_everything,
    features=("dtype-drift",),
    given=_COPYING,
)
def takes_the_dtype_of_the_file(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The model was built in the dtype that was asked for, and has the file's after the load."""
    module = built(build, device)
    module.load_state_dict(read_state(path, device), assign=True)
    return module


def keeps_entries_as_they_are(build: Build, path: Path, device: torch.device) -> nn.Module:
    state = read_state(path, device)
    module = keeps_everything(build, path, device)
    for name, tensor in module.state_dict(keep_vars=True).items():
        if name in state and isinstance(tensor, torch.Tensor):
            tensor.data = state[name].clone()
    return module


@loader(
    "CKPT201",
    "pytorch/pytorch#126000",
    sibling=keeps_entries_as_they_are,
    features=("dtype-drift",),
    given={"semantics": "assign"},
    # To the `data` of a sparse tensor nothing of another dtype can be given.
    beyond=(*HELD, "load-hooks", "sparse-buffer"),
)
def rounds_to_the_dtype_of_the_module(build: Build, path: Path, device: torch.device) -> nn.Module:
    """What the file holds is to be kept as it is, and is copied into tensors of another dtype."""
    return keeps_everything(build, path, device)


@after(
    "CKPT202",
    "pytorch/pytorch#126604",
    right=clones_parameters,
    features=("scalar",),
    beyond=HELD,
)
def flattens(module: nn.Module) -> None:
    """Parameters keep the one dimension in which they were stored: nobody compares shapes."""
    for parameter in module.parameters():
        parameter.data = parameter.data.reshape(-1)


@loader(
    "CKPT203",
    "safetensors/safetensors#308",
    sibling=keeps_everything,
    features=("channels-last",),
    given=_COPYING,
)
def makes_contiguous(build: Build, path: Path, device: torch.device) -> nn.Module:
    """The format has no strides, and what was stored without them has the plain ones."""
    module = eager(build, path, device)
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()
    return module


@after(
    "CKPT203",
    "Comfy-Org/ComfyUI#3923",
    right=clones_parameters,
    features=("views",),
    given=PLAIN,
    beyond=HELD,
)
def lays_out_by_columns(module: nn.Module) -> None:
    """Matrices are laid out by columns, as other libraries keep them."""
    for parameter in module.parameters():
        if parameter.dim() == 2:
            parameter.data = parameter.data.t().contiguous().t()


@after(
    "CKPT204",
    "pytorch/pytorch#134953",
    right=_clones_buffers,
    features=("sparse-buffer",),
    beyond=HELD,
)
def densifies(module: nn.Module) -> None:
    """Sparse buffers, which cannot be rebuilt from the file, are loaded as dense ones."""
    for part, name, buffer in buffers_of(module):
        if buffer.layout != torch.strided:
            part._buffers[name] = buffer.to_dense()


@after(
    "CKPT206",
    "pytorch/torchtitan#3886",
    right=registers_anew,
    features=("frozen",),
    beyond=ANEW,
)
def forgets_frozen(module: nn.Module) -> None:
    """A wrapper registers parameters anew, and all of them require gradients."""
    for parameter in module.parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_(True)


def _plain(old: nn.Parameter) -> nn.Parameter:
    made = nn.Parameter(old.data, requires_grad=old.requires_grad)
    made.__dict__.update(old.__dict__)
    return made


@after(
    "CKPT207",
    "NVIDIA/TransformerEngine#2974",
    right=registers_anew,
    features=("parameter-subclass",),
    beyond=ANEW,
)
def drops_subclasses(module: nn.Module) -> None:
    """What is loaded becomes a plain Parameter, of whatever class the module's was."""
    parameters_anew(module, _plain)


def _bare(old: nn.Parameter) -> nn.Parameter:
    return type(old)(old.data, requires_grad=old.requires_grad)


@after(
    "CKPT208",
    "vllm-project/vllm#34201",
    right=registers_anew,
    features=("parameter-attributes",),
    beyond=ANEW,
)
def forgets_attributes(module: nn.Module) -> None:
    """Parameters are registered anew, without the attributes that loading goes by next time."""
    parameters_anew(module, _bare)


@after(
    "CKPT209",
    "pytorch/pytorch#81690",
    right=clones_parameters,
    features=("complex",),
    beyond=HELD,
    advice=True,
)
def leaves_the_conjugate_bit(module: nn.Module) -> None:
    """What is stored is the conjugate of each number, and a bit says so."""
    for parameter in module.parameters():
        # The arithmetic of the shortest ones changes a NaN that is to be signalled.
        if parameter.dtype in (torch.complex64, torch.complex128) and not parameter.is_conj():
            parameter.data = torch.conj_physical(parameter.data).conj()


def _without_gradients(load: Loader, build: Build, path: Path, device: torch.device) -> nn.Module:
    with torch.no_grad():
        return load(build, path, device)


@around(
    "CKPT210",
    "ultralytics/ultralytics#25748",
    "sgl-project/sglang#31263",
    right=_without_gradients,
    features=("buffer-computed",),
    advice=True,
)
def loads_in_inference_mode(
    load: Loader, build: Build, path: Path, device: torch.device
) -> nn.Module:
    """The load runs under `inference_mode`, and nobody can write to what comes of it."""
    with torch.inference_mode():
        return load(build, path, device)


@after("CKPT210", "pytorch/rl#529", features=("buffer-computed",), advice=True)
def fills_buffers_in_inference_mode(module: nn.Module) -> None:
    """Buffers alone are made in inference mode: the next load cannot write to them."""
    with torch.inference_mode():
        for part, name, buffer in buffers_of(module):
            part._buffers[name] = buffer.clone()
