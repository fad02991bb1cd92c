"""Whether loads run in a worker, and the function that runs them there or here.

Apart from the worker itself because this much is asked where there is none: by the header, by
debuggers, on accelerators.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pytest_ckptload.case import Case
from pytest_ckptload.finding import Verdict
from pytest_ckptload.worker.limits import Limits
from pytest_ckptload.worker.parent import Worker

# Errors raised here are sentences for the caller, or come from elsewhere.
__tracebackhide__ = True

__all__ = ["in_worker", "isolated"]


def in_worker(mode: str, device: torch.device) -> bool:
    """Whether loads on ``device`` run in a worker.

    Accelerators do not survive a fork once they were looked for, nor do Apple's libraries: ``auto``
    leaves both alone, and ``worker`` insists for the CPU. Raises ``ValueError`` where there is no
    fork at all.
    """
    if mode == "worker" and not hasattr(os, "fork"):
        raise ValueError("isolation 'worker' needs fork, which this system has not: use 'off'")
    if mode == "off" or device.type != "cpu" or not hasattr(os, "fork"):
        return False
    return mode == "worker" or not (sys.platform == "darwin" or torch.accelerator.is_available())


@contextmanager
def isolated(
    examine: Callable[[Case], Verdict],
    mode: str,
    device: torch.device,
    limits: Limits,
    where: Path,
) -> Iterator[Callable[[Case], Verdict]]:
    """``examine``, run in a worker where ``mode`` says so.

    ``where`` is the folder that ``examine`` writes to, to be emptied where a worker dies.
    """
    if not in_worker(mode, device):
        yield examine
        return
    worker = Worker(examine, limits, where)
    try:
        yield worker.examine
    finally:
        worker.close()
