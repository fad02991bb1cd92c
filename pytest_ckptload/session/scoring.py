"""Trials of mutants over a whole session, for ``--ckptload-mutants``: registered where it is asked
for.

Apart from the plugin so that a session without the option has no hook to call. Trials travel with
the report of each test, so that those of xdist's workers arrive at the controller, which prints.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ckptload.fixtures import TRIALS

if TYPE_CHECKING:
    from pytest_ckptload.scores import Trial

__all__ = ["ScoringPlugin"]

_KEY = "ckptload_mutants"


class ScoringPlugin:
    """Collects the trials of all tests, and prints them."""

    def __init__(self) -> None:
        self.trials: dict[str, list[dict[str, Any]]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        made: list[Trial] = item.stash.get(TRIALS, [])
        if made:
            vars(report)[_KEY] = [trial.as_dict() for trial in made]
            made.clear()
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if _KEY in vars(report):
            self.trials.setdefault(report.nodeid, []).extend(vars(report)[_KEY])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        # What the faults do is known to torch's side alone, which the controller need not have.
        from pytest_ckptload.report.mutants import mutant_lines
        from pytest_ckptload.scores import Trial

        terminalreporter.section("ckptload: mutants")
        trials = {
            where: [Trial.from_dict(data) for data in made] for where, made in self.trials.items()
        }
        for line in mutant_lines(trials):
            terminalreporter.line(line)
