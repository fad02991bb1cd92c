"""What a device does by itself is no finding: the eager recipe, loaded beside the loader, tells.

Apart from the checker because it examines twice, and only where something was found elsewhere than
on the CPU, whose operations give the same every time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from pytest_ckptload.finding import Finding, Verdict
from pytest_ckptload.loader import Loader
from pytest_ckptload.recipes import eager
from pytest_ckptload.reference import Demands

__all__ = ["controlled"]


def controlled(
    verdict: Verdict, device: torch.device, demands: Demands, again: Callable[[Loader], Verdict]
) -> Verdict:
    """``verdict`` without what the reference, examined ``again`` as the loader was, shows as well.

    A damaged file is left as it was judged: what eager loading accepts of it on a device is no
    measure.
    """
    if device.type == "cpu" or not verdict.findings:
        return verdict
    own = {_what(finding) for finding in again(_reference(demands)).findings}
    kept = tuple(f for f in verdict.findings if _what(f) not in own or f.code == "CKPT805")
    if len(kept) == len(verdict.findings):
        return verdict
    dropped = ", ".join(sorted({f.code for f in verdict.findings} - {f.code for f in kept}))
    note = f"not judged on {device}: {dropped}, where eager loading differs from itself"
    return replace(verdict, findings=kept, notes=(*verdict.notes, note))


def _what(finding: Finding) -> tuple[str, str]:
    return finding.code, finding.place


def _reference(demands: Demands) -> Loader:
    if demands.reference is not None:
        return demands.reference
    return eager if demands.dtype is None else partial(eager, dtype=demands.dtype)
