"""Hypothesis strategies for tensors, modules, checkpoints, optimizers, and cases of them all."""

from __future__ import annotations

from pytest_ckptload.strategies.cases import (
    cases,
    checkpoints,
    modules,
    random_cases,
    state_dicts,
)
from pytest_ckptload.strategies.covering import covering
from pytest_ckptload.strategies.optimizers import optimizers, resume_cases, resume_covering
from pytest_ckptload.strategies.tensors import tensors

__all__ = [
    "cases",
    "checkpoints",
    "covering",
    "modules",
    "optimizers",
    "random_cases",
    "resume_cases",
    "resume_covering",
    "state_dicts",
    "tensors",
]
