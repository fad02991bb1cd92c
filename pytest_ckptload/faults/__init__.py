"""Faults: loaders, resumers, modules and checkpoints that are broken on purpose, to prove that the
rules catch them.

Each re-enacts a real bug, which it cites, and stands beside a sibling that is as close to it as can
be and correct. ``FAULTS`` holds them all by name.
"""

from __future__ import annotations

from pytest_ckptload.faults import (  # noqa: F401  (each registers its faults)
    acceptance,
    aliasing,
    behaviour,
    devices,
    ending,
    file,
    meta,
    models,
    names,
    optimizer_state,
    optimizers,
    packed,
    payloads,
    refused,
    robustness,
    structure,
    tensors,
    ties,
    unrestored,
    values,
    writers,
)
from pytest_ckptload.faults.fault import DEADLY, FAULTS, Fault
from pytest_ckptload.faults.sources import SOURCES

__all__ = ["DEADLY", "FAULTS", "SOURCES", "Fault"]
