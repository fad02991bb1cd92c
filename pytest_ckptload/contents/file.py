"""The file: how a state dict is written.

Apart from what is in it, because formats know nothing of modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["write"]


def write(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint as ``torch.save`` does."""
    torch.save(state, path)
