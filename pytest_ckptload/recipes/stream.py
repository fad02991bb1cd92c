"""The documented loop over a mapped file: one tensor at a time, cast and moved, then assigned.

Apart because it casts: it is judged with ``dtype=``. Source: the PyTorch recipe "Tips for Loading
an nn.Module from a Checkpoint", its section on ``mmap=True``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.loader import Build
from pytest_ckptload.recipes.eager import state_dict_in

__all__ = ["mmap_stream"]


def mmap_stream(
    build: Build, path: Path, device: torch.device, *, dtype: torch.dtype = torch.bfloat16
) -> nn.Module:
    """Map the file, cast and move one tensor after the other, build the module on meta, assign.

    Floating tensors are cast to ``dtype``; others keep theirs, and so does extra state.
    """
    payload = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    state: Any = state_dict_in(payload)
    for name, tensor in state.items():
        if isinstance(tensor, torch.Tensor) and not name.endswith("_extra_state"):
            cast = dtype if tensor.is_floating_point() else None
            state[name] = tensor.detach().to(device, cast)
    with torch.device("meta"):
        module = build()
    module.load_state_dict(state, strict=True, assign=True)
    return module
