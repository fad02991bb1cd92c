"""What can be seen of a loaded module, without knowing how it was loaded."""

from __future__ import annotations

from pytest_ckptload.observe.module import Observation, Place, observe

__all__ = ["Observation", "Place", "observe"]
