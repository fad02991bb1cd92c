"""Examinations in a child process that may die.

``isolated`` hands out a function from cases to verdicts, whatever became of the process that ran
them. A folder because a child that stands in for its parent has to pass on more than verdicts:
output, warnings, log records, coverage.
"""

from __future__ import annotations

from pytest_ckptload.worker.isolation import in_worker, isolated
from pytest_ckptload.worker.limits import Limits

__all__ = ["Limits", "in_worker", "isolated"]
