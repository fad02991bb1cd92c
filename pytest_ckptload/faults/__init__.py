"""Faults: loaders and resumers that are broken on purpose, to prove that the rules catch it.

Each re-enacts a real bug, which it cites, and stands beside a sibling that is as close to it as can
be and correct. ``FAULTS`` holds them all.
"""

from __future__ import annotations

from pytest_ckptload.faults.endings import ENDING_FAULTS
from pytest_ckptload.faults.fault import Fault
from pytest_ckptload.faults.loaders import LOADER_FAULTS
from pytest_ckptload.faults.resumers import RESUMER_FAULTS

__all__ = ["FAULTS", "Fault"]

FAULTS: tuple[Fault, ...] = (*LOADER_FAULTS, *ENDING_FAULTS, *RESUMER_FAULTS)
"""Every fault, in the order of the rules that catch them."""
