"""What a load takes of its device's memory, where torch has the figures.

Apart from the loads because most devices are the CPU, of which nothing is measured here.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from pytest_ckptload.machine.accelerator import accelerator

__all__ = ["Taken", "taken_on"]


@dataclass
class Taken:
    """Bytes allocated on a device: the most at one time, and at the end, more than there were."""

    device: torch.device
    before: int
    peak: int = 0
    held: int = 0

    def collected(self) -> Taken:
        """The same with what is there once garbage is collected, which takes as long as a load."""
        gc.collect()
        now = torch.accelerator.memory.memory_allocated(self.device)
        return replace(self, held=now - self.before)


@contextmanager
def taken_on(device: torch.device) -> Iterator[Taken | None]:
    """What is allocated inside; ``None`` on a device whose allocator torch has no figures of."""
    if not _has_figures(device):
        yield None
        return
    memory = torch.accelerator.memory
    memory.reset_peak_memory_stats(device)
    taken = Taken(device, memory.memory_allocated(device))
    try:
        yield taken
    finally:
        taken.peak = memory.max_memory_allocated(device) - taken.before
        taken.held = memory.memory_allocated(device) - taken.before


def _has_figures(device: torch.device) -> bool:
    current = accelerator()
    if current is None or current.type != device.type:
        return False
    if not hasattr(torch, "accelerator") or not hasattr(torch.accelerator, "memory"):
        return False
    try:
        torch.accelerator.memory.memory_allocated(device)
    except (NotImplementedError, RuntimeError):  # an allocator that keeps none
        return False
    return True
