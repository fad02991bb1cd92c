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
    from pytest_ckptload.examine.written import WrittenCase
    from pytest_ckptload.finding import CheckpointMismatch, Finding
    from pytest_ckptload.loader import Loader, Resumer
    from pytest_ckptload.observe import Observation, Place
    from pytest_ckptload.rules import (
        Aftermath,
        Ambient,
        Attempt,
        Behaviour,
        Broken,
        Comparison,
        DeviceMemory,
        Ending,
        FileFacts,
        Lifetime,
        Rule,
        SecondLoad,
        Training,
    )
    from pytest_ckptload.zoo.feature import Choose, Feature, Plan

__all__ = [
    "Aftermath",
    "Ambient",
    "Attempt",
    "Behaviour",
    "Broken",
    "Case",
    "CheckpointMismatch",
    "Choose",
    "Comparison",
    "DeviceMemory",
    "Ending",
    "Feature",
    "FileFacts",
    "Finding",
    "Lifetime",
    "Loader",
    "Observation",
    "Place",
    "Plan",
    "Report",
    "Resumer",
    "Rule",
    "SecondLoad",
    "Training",
    "WrittenCase",
    "assert_modules_equal",
    "assert_optimizer_tracks",
]

__version__ = "0.1.0"

_HOMES = {
    "Aftermath": "rules",
    "Attempt": "rules",
    "Ambient": "rules",
    "Behaviour": "rules",
    "DeviceMemory": "rules",
    "Broken": "rules",
    "Case": "case",
    "CheckpointMismatch": "finding",
    "Choose": "zoo.feature",
    "Comparison": "rules",
    "Ending": "rules",
    "Feature": "zoo.feature",
    "FileFacts": "rules",
    "Finding": "finding",
    "Lifetime": "rules",
    "Loader": "loader",
    "Observation": "observe",
    "Place": "observe",
    "Plan": "zoo.feature",
    "Report": "checks",
    "Resumer": "loader",
    "Rule": "rules",
    "SecondLoad": "rules",
    "Training": "rules",
    "WrittenCase": "examine.written",
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
