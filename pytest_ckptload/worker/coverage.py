"""What coverage measured in a worker, added to what it measures in the parent.

Apart because it is an adapter to one tool, and takes two private attributes of it: the child's data
must not go into a file, which might be the parent's. Does nothing where coverage is not at work.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["add", "collected"]


def _current() -> Any:
    package = sys.modules.get("coverage")
    return None if package is None else package.Coverage.current()


def collected() -> bytes | None:
    """In the child: what was measured, the parent's lines from before the fork included."""
    current = _current()
    if current is None or current._data is None:
        return None
    current.stop()
    current._data._no_disk = True
    return current.get_data().dumps()  # type: ignore[no-any-return]


def add(measured: bytes | None) -> None:
    """In the parent: add what a worker measured."""
    current = _current()
    if current is None or measured is None:
        return
    data = sys.modules["coverage"].CoverageData(no_disk=True)
    data.loads(measured)
    current.get_data().update(data)
