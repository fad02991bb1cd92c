"""Finds out whether a way of loading PyTorch checkpoints is correct.

The public names are imported when they are first used: importing the package never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_ckptload.asserts import assert_modules_equal, assert_optimizer_tracks
    from pytest_ckptload.case import Case
    from pytest_ckptload.checks import Report
    from pytest_ckptload.finding import CheckpointMismatch, Finding
    from pytest_ckptload.loader import Loader, Resumer
    from pytest_ckptload.written import WrittenCase
    from pytest_ckptload.zoo.feature import Choose, Feature, Plan

__all__ = [
    "Case",
    "CheckpointMismatch",
    "Choose",
    "Feature",
    "Finding",
    "Loader",
    "Plan",
    "Report",
    "Resumer",
    "WrittenCase",
    "assert_modules_equal",
    "assert_optimizer_tracks",
]

__version__ = "0.1.0"

_HOMES = {
    "Case": "case",
    "CheckpointMismatch": "finding",
    "Choose": "zoo.feature",
    "Feature": "zoo.feature",
    "Finding": "finding",
    "Loader": "loader",
    "Plan": "zoo.feature",
    "Report": "checks",
    "Resumer": "loader",
    "WrittenCase": "written",
    "assert_modules_equal": "asserts",
    "assert_optimizer_tracks": "asserts",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
