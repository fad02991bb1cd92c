"""A check as people ask for it: what they hand in is tried, settled and run.

``Checker`` is the object behind the ``ckptload`` fixture and behind the suite. A folder because a
loader, a module factory, an optimizer factory and a budget each take checking before any case is
drawn; none of it knows pytest.
"""

from __future__ import annotations

from pytest_ckptload.checks.checker import PROMISES, Checker
from pytest_ckptload.checks.runs import Defaults, Report

__all__ = ["PROMISES", "Checker", "Defaults", "Report"]
