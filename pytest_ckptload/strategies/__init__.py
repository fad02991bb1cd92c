"""Hypothesis strategies for cases and their parts."""

from __future__ import annotations

from pytest_ckptload.strategies.cases import cases, checkpoints, covering, modules
from pytest_ckptload.strategies.optimizers import optimizers, resume_cases, resume_covering

__all__ = [
    "cases",
    "checkpoints",
    "covering",
    "modules",
    "optimizers",
    "resume_cases",
    "resume_covering",
]
