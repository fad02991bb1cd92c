"""Examines cases in worker processes, one after the other, and says what became of those that died.

Apart from ``process``, which knows one process and no verdicts: here a worker is kept for the cases
that follow, and replaced when it is gone.
"""

from __future__ import annotations

from collections.abc import Callable

from pytest_ckptload.case import Case
from pytest_ckptload.examine.progress import Board
from pytest_ckptload.finding import Verdict
from pytest_ckptload.rules import Ending, judge
from pytest_ckptload.worker.limits import Limits
from pytest_ckptload.worker.process import Gone, Process

# Errors raised here are sentences for the caller, or come from elsewhere.
__tracebackhide__ = True

__all__ = ["Worker"]


class Worker:
    """Examines cases in a child process, forked with all that ``examine`` refers to.

    ``clean`` takes away what a process that died left behind.
    """

    def __init__(
        self,
        examine: Callable[[Case], Verdict],
        limits: Limits,
        clean: Callable[[], None],
    ) -> None:
        self._work = examine
        self._limits = limits
        self._clean = clean
        self._board = Board.shared()
        self._process: Process | None = None

    def examine(self, case: Case) -> Verdict:
        """The verdict on a case; where the worker died of it, that is the verdict.

        Raises what the examination itself raised.
        """
        if self._process is not None and self._process.outgrown():
            self.close()
        if self._process is None:
            self._process = Process(self._work, self._limits, self._board)
        try:
            return self._process.ask(case)
        except Gone as gone:
            ending = self._process.ending(gone)
            self._process = None
            if ending.seconds is not None:
                self._limits = self._limits.after_a_hang()
            self._clean()
            return _verdict(ending)
        except KeyboardInterrupt:
            self._process.kill()
            self._process = None
            raise

    def close(self) -> None:
        """End the worker, and whatever it left running."""
        if self._process is not None:
            self._process.leave()
            self._process = None


def _verdict(ending: Ending) -> Verdict:
    if ending.stage in ("writing", "reading"):
        raise RuntimeError(f"while {ending.stage} the checkpoint, the process {ending.how()}")
    if ending.stage == "reference":
        return Verdict(refused=f"the process {ending.how()}", died=True)
    return Verdict(tuple(judge(ending)), judged=True, died=True)
