"""What broken loaders and their correct siblings have in common: reading, and careful loading.

Apart so that the files of faults share it, and each holds faults alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from pytest_ckptload.loader import Build
from pytest_ckptload.recipes.eager import built

__all__ = [
    "ANEW",
    "HELD",
    "PLAIN",
    "Change",
    "Tensors",
    "assigned",
    "buffers_of",
    "clones_parameters",
    "keeps_everything",
    "kept_state",
    "loads_without_strict",
    "parameters_anew",
    "read_state",
    "registers_anew",
    "same_type",
]

Tensors = Mapping[str, torch.Tensor]
Change = Callable[[str, torch.Tensor], torch.Tensor]

HELD = ("alias-attribute", "view-parameter")
"""The features that new tensors in the place of the old ones come apart from."""

ANEW = (*HELD, "parameter-hooks")
"""Those, and the one that new parameters without the old ones' hooks come apart from."""


def _plain() -> nn.Module:
    return nn.Linear(2, 2)


PLAIN = {"build": _plain}
"""A check of one small module without features, which is loaded more than once."""


def read_state(path: Path, device: torch.device, *, mapped: bool = True) -> Tensors:
    """The state dict in the file."""
    state: Tensors = torch.load(path, map_location=device, weights_only=True, mmap=mapped)
    return state


_KEPT: dict[bytes, dict[str, torch.Tensor]] = {}


def kept_state(path: Path, device: torch.device) -> dict[str, torch.Tensor]:
    """The state dict in the file, which is kept for the next load of a file with these bytes."""
    content = path.read_bytes()
    if content not in _KEPT:
        _KEPT.clear()
        _KEPT[content] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return _KEPT[content]


def assigned(build: Build, path: Path, device: torch.device, change: Change) -> nn.Module:
    """Build as ever, then give each name what ``change`` makes of its entry, ties kept."""
    state = read_state(path, device)
    module = built(build, device)
    module.load_state_dict(state)  # refuses what does not fit, and copies
    done: set[int] = set()
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if isinstance(tensor, torch.Tensor) and id(tensor) not in done:
                done.add(id(tensor))
                tensor.copy_(change(name, tensor.detach().clone()))
    return module


def keeps_everything(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Map, and copy into the module's own tensors: right."""
    return assigned(build, path, device, lambda name, tensor: tensor)


def loads_without_strict(build: Build, path: Path, device: torch.device) -> nn.Module:
    """Map, and copy what there is: right for whoever does not promise to be strict."""
    module = built(build, device)
    module.load_state_dict(read_state(path, device), strict=False)
    return module


def clones_parameters(module: nn.Module) -> None:
    """Give each parameter memory of its own: right, unless something else shares it."""
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()


def buffers_of(module: nn.Module) -> Iterator[tuple[nn.Module, str, torch.Tensor]]:
    """Every buffer, with the part that holds it and its name there."""
    for part in module.modules():
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                yield part, name, buffer


def same_type(old: nn.Parameter) -> nn.Parameter:
    """Another parameter over the same data, alike but for hooks and references to it."""
    made = type(old)(old.data, requires_grad=old.requires_grad)
    made.__dict__.update(old.__dict__)
    return made


def registers_anew(module: nn.Module) -> None:
    """Put another parameter, alike in all but hooks and references, in the place of each: right."""
    parameters_anew(module, same_type)


def parameters_anew(module: nn.Module, make: Callable[[nn.Parameter], nn.Parameter]) -> None:
    """Replace every parameter once, ties kept."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for part in module.modules():
        for name, old in list(part._parameters.items()):
            if old is not None:
                if old not in made:
                    made[old] = make(old)
                setattr(part, name, made[old])
