"""How a process ended that was to examine a case: facts of their own, since there is no module.

Apart from the other facts because nothing here is torch's: signals, statuses and a stack, as the
system and Python's fault handler leave them.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ending"]

_DURING = {
    "idle": "between two loads, of something that a load left running",
    "reference": "during the eager load",
    "load": "during the load",
    "observation": "when the loaded tensors were read",
    "behaviour": "when the loaded module was called",
    "training": "when the loaded module was trained",
    "second load": "during another load by the same loader",
    "lifetime": "when the loaded tensors were read again, with the file gone",
}
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>.+)')
_PACKAGE = str(Path(__file__).parent.parent)


@dataclass(frozen=True)
class Ending:
    """The end of a process during ``stage``, part of an examination.

    ``status`` is its exit status, negative for the number of the signal that killed it, ``None``
    where it was alive and did not answer. ``seconds`` is the limit that it exceeded, ``memory`` the
    bytes that it was allowed, where one of them was the reason; ``slowest`` the seconds of the
    slowest load that it completed. ``trace`` is what the fault handler wrote.
    """

    stage: str
    status: int | None
    seconds: float | None = None
    memory: int | None = None
    trace: str = ""
    slowest: float = 0.0

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed it, where one did."""
        if self.status is None or self.status >= 0:
            return None
        try:
            return signal.Signals(-self.status).name
        except ValueError:
            return f"signal {-self.status}"

    def how(self) -> str:
        """What happened to it, when, and where in the code."""
        return f"{self._what()} {_DURING.get(self.stage, f'during {self.stage}')}{self._where()}"

    def _what(self) -> str:
        if self.seconds is not None:
            return f"was not done after {self.seconds:.3g} s"
        if self.memory is not None:
            return f"took more than {_size(self.memory)}"
        if self.status is None:
            return "did not answer any more"
        if self.signal is not None:
            return f"died of {self.signal}"
        return f"ended itself with status {self.status}"

    def _where(self) -> str:
        """The innermost function on the stack, and the outermost, which is the loader's."""
        frames: list[str] = []
        for found in _FRAME.finditer(self.trace):
            if found["file"].startswith(_PACKAGE):
                if frames:
                    break
                continue
            frames.append(f"{found['name']} ({Path(found['file']).name}:{found['line']})")
        if not frames:
            return ""
        called = f", called from {frames[-1]}" if len(frames) > 1 else ""
        return f", in {frames[0]}{called}"


def _size(count: int) -> str:
    value, units = float(count), iter(("B", "kB", "MB", "GB"))
    unit = next(units)
    while value >= 1000 and unit != "GB":
        value, unit = value / 1000, next(units)
    return f"{value:.3g} {unit}"
