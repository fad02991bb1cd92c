"""Counts over a whole session, for ``--ckptload-coverage``: registered where it is asked for.

Apart from the plugin so that a session without the option has no hook to call. Counts travel with
the report of each test, so that those of xdist's workers arrive at the controller, which adds up.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_ckptload.fixtures import tried_in
from pytest_ckptload.tried import Tried

__all__ = ["CountingPlugin"]

_KEY = "ckptload_tried"


class CountingPlugin:
    """Adds up what was tried in all tests, those that failed included, and prints it."""

    def __init__(self) -> None:
        self.tried = Tried()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        tried = tried_in(item)
        if tried is not None and tried.cases:
            vars(report)[_KEY] = tried.taken().as_dict()
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if _KEY in vars(report):
            self.tried.merge(Tried.from_dict(vars(report)[_KEY]))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("ckptload: coverage")
        if not self.tried.cases:
            terminalreporter.line("no case was tried")
            return
        # What there is to try is known to torch alone, which the controller need not have so far.
        from pytest_ckptload.report.coverage import coverage_lines

        for line in coverage_lines(self.tried):
            terminalreporter.line(line)
