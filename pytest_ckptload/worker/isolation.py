"""Whether loads run in a worker, and the function that runs them there or here.

Apart from the worker itself because this much is asked where there is none: by the header, by
debuggers, on accelerators.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from pytest_ckptload.case import Case
from pytest_ckptload.examine.loads import emptied, folder
from pytest_ckptload.finding import Verdict
from pytest_ckptload.machine.accelerator import accelerator
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
    return mode == "worker" or not (sys.platform == "darwin" or accelerator() is not None)


@contextmanager
def isolated(
    examine: Callable[[Case, Path], Verdict], mode: str, device: torch.device, limits: Limits
) -> Iterator[Callable[[Case], Verdict]]:
    """``examine``, run in a worker where ``mode`` says so.

    It is given a folder to write to, which is made here: where a worker dies all in it is deleted.
    """
    with folder() as where:
        work = partial(_in, where, examine)
        if not in_worker(mode, device):
            yield work
            return
        worker = Worker(work, limits, lambda: emptied(where))
        try:
            yield worker.examine
        finally:
            worker.close()


def _in(where: Path, examine: Callable[[Case, Path], Verdict], case: Case) -> Verdict:
    return examine(case, where)
