"""Faults of loaders that rename what is in the file, by a part of its name: CKPT104 and CKPT803.

Apart from what is wrong with values: each entry is read as it stands, and looked for under a name
that the module does not have, or has elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.faults.fault import loader
from pytest_ckptload.faults.parts import loads_without_strict, read_state
from pytest_ckptload.loader import Build
from pytest_ckptload.recipes.eager import built

__all__: list[str] = []


def _renamed(
    build: Build, path: Path, device: torch.device, rename: Callable[[str], str], *, strict: bool
) -> nn.Module:
    """Load what the file holds under the names that ``rename`` makes of its own."""
    state: Any = read_state(path, device)
    for name in list(state):
        if rename(name) != name:
            state[rename(name)] = state.pop(name)  # in place, for what hangs on the dict
    module = built(build, device)
    module.load_state_dict(state, strict=strict)
    return module


@loader(
    "CKPT104",
    "huggingface/transformers#29554",
    sibling=loads_without_strict,
    features=("telling-names",),
)
def takes_gamma_for_a_weight(build: Build, path: Path, device: torch.device) -> nn.Module:
    """What is called `gamma` or `beta` is renamed as in old files, whatever the module has."""

    def rename(name: str) -> str:
        return name.replace("gamma", "weight").replace("beta", "bias")

    return _renamed(build, path, device, rename, strict=False)


def _takes_a_prefix_off(build: Build, path: Path, device: torch.device) -> nn.Module:
    return _renamed(
        build, path, device, lambda name: name.removeprefix("_forward_module."), strict=True
    )


@loader(
    "CKPT803",
    "nerfstudio-project/nerfstudio#1567",
    sibling=_takes_a_prefix_off,
    features=("telling-names",),
)
def takes_a_prefix_out_anywhere(build: Build, path: Path, device: torch.device) -> nn.Module:
    """`module.` is taken out of names wherever it stands, at the end of another word as well."""
    return _renamed(build, path, device, lambda name: name.replace("module.", ""), strict=True)
