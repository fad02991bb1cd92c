"""The rules: one kind of difference each, with a stable code.

``RULES`` holds them all by code; ``judge`` runs those that speak about a given set of facts. One
file for each hundred of codes, or two.
"""

from __future__ import annotations

from pytest_ckptload.rules import (  # noqa: F401  (each registers its rules)
    aliasing,
    behaviour,
    file,
    memory,
    optimizer_state,
    optimizers,
    robustness,
    structure,
    tensors,
    values,
)
from pytest_ckptload.rules.comparison import Comparison
from pytest_ckptload.rules.ending import Ending
from pytest_ckptload.rules.facts import (
    Aftermath,
    Ambient,
    Attempt,
    Behaviour,
    DeviceMemory,
    FileFacts,
    Lifetime,
    SecondLoad,
    Training,
)
from pytest_ckptload.rules.rule import RULES, Broken, Rule, judge, rule

__all__ = [
    "RULES",
    "Aftermath",
    "Ambient",
    "Attempt",
    "Behaviour",
    "Broken",
    "Comparison",
    "DeviceMemory",
    "Ending",
    "FileFacts",
    "Lifetime",
    "Rule",
    "SecondLoad",
    "Training",
    "judge",
    "rule",
]
