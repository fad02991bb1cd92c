"""What a device computes otherwise each time is no finding: the eager way, beside itself, tells.

Apart from the pipeline because it examines again, and only where two modules were found to compute
differently elsewhere than on the CPU, whose operations give the same every time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from pytest_ckptload.case import Case
from pytest_ckptload.checks.runs import Examine
from pytest_ckptload.finding import Verdict

__all__ = ["controlled"]

T = TypeVar("T")

# Steps, outputs and gradients. What tensors hold is held against the file, whoever loads.
_COMPUTED = frozenset({"CKPT508", "CKPT901", "CKPT902"})

# What computes otherwise each time may by chance not do so once.
_TIMES = 3


def controlled(examining: Callable[[T], Examine], load: T, eager: T) -> Examine:
    """Examinations of ``load``, without findings on what is computed where ``eager``, examined in
    the same way, has them as well.
    """

    def examine(case: Case, device: torch.device, where: Path) -> Verdict:
        verdict = examining(load)(case, device, where)
        found = {finding.code for finding in verdict.findings} & _COMPUTED
        for _ in range(_TIMES if found and device.type != "cpu" else 0):
            again = examining(eager)(case, device, where)
            if own := found & {finding.code for finding in again.findings}:
                return _without(verdict, own, device)
        return verdict

    return examine


def _without(verdict: Verdict, codes: set[str], device: torch.device) -> Verdict:
    kept = tuple(finding for finding in verdict.findings if finding.code not in codes)
    said = ", ".join(sorted(codes))
    note = f"not judged on {device}: {said}, where eager loading differs from itself"
    return replace(verdict, findings=kept, notes=(*verdict.notes, note))
