"""Hypothesis strategies for cases and their halves."""

from __future__ import annotations

from pytest_ckptload.strategies.cases import cases, checkpoints, covering, modules

__all__ = ["cases", "checkpoints", "covering", "modules"]
