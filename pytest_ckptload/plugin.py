"""Pytest's hooks, and nothing else: each hands over to the module that does the work.

Apart because pytest imports it in every session, those that never load a checkpoint included. So it
imports neither torch nor Hypothesis; what needs them is imported when it is used.
"""

from __future__ import annotations

import importlib.metadata
import sys
import warnings
from collections.abc import Generator
from typing import Any

import pytest

from pytest_ckptload import hookspecs
from pytest_ckptload.fixtures import (
    CURRENT,
    PREPARE,
    allowances_in,
    check_marker,
    ckptload,
    ckptload_case,
    ckptload_checkpoint,
    ckptload_device,
    ckptload_module,
)
from pytest_ckptload.options import SETTINGS, add_options, settings_from, suite_arguments
from pytest_ckptload.session.extending import know_extensions

__all__ = [
    "ckptload",
    "ckptload_case",
    "ckptload_checkpoint",
    "ckptload_device",
    "ckptload_module",
]

_DRAWN = {"ckptload_case", "ckptload_module", "ckptload_checkpoint"}
_ALLOWANCES = "ckptload_allowances"


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if not _shows_rules(config):
        return None
    from pytest_ckptload.session.listing import show_rules

    return show_rules(config)


def _shows_rules(config: pytest.Config) -> bool:
    return bool(config.option.ckptload_rules or config.option.ckptload_rule is not None)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "ckptload(**arguments): what `ckptload.check` does in this test where its own arguments do "
        "not say: features, without, promises, allow, devices, max_examples.",
    )
    config.stash[SETTINGS] = settings_from(config)
    if config.stash[SETTINGS].coverage:
        from pytest_ckptload.session.counting import CountingPlugin

        config.pluginmanager.register(CountingPlugin(), "ckptload_counting")
    if config.stash[SETTINGS].mutants:
        from pytest_ckptload.session.scoring import ScoringPlugin

        config.pluginmanager.register(ScoringPlugin(), "ckptload_scoring")
    know_extensions(config)
    wanted, selected = suite_arguments(config)
    instead = config.option.help or config.option.version or _shows_rules(config)
    if wanted and not instead:
        with warnings.catch_warnings():
            # Of torch without numpy, at import: nothing to do with loading, and nobody asked.
            warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
            from pytest_ckptload.suite import SuitePlugin

        config.pluginmanager.register(SuitePlugin(config, selected), "ckptload_suite")


def pytest_report_header(config: pytest.Config) -> str | None:
    suite = config.pluginmanager.get_plugin("ckptload_suite")
    if suite is None:
        return None
    return f"ckptload: torch {importlib.metadata.version('torch')}, {suite.describe()}"


def pytest_collection_finish(session: pytest.Session) -> None:
    know_extensions(session.config)


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    made = yield
    if isinstance(made, list) and any(_DRAWN.intersection(_fixtures(item)) for item in made):
        from pytest_ckptload.session.conversion import converted

        return converted(made)
    return made


def _fixtures(item: object) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "ckptload_device" in metafunc.fixturenames:
        from pytest_ckptload.machine.devices import named

        names = metafunc.config.stash[SETTINGS].devices or ("all",)
        try:
            found = named(names)
        except ValueError as error:
            raise pytest.UsageError(f"--ckptload-devices: {error}") from None
        metafunc.parametrize("ckptload_device", found, ids=str, scope="session")


def pytest_runtest_setup(item: pytest.Item) -> None:
    check_marker(item)
    if PREPARE in item.stash:
        item.stash[PREPARE]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.config.stash[CURRENT] = item
    try:
        return (yield)
    finally:
        del item.config.stash[CURRENT]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    script = getattr(error, "script", None)
    if script is not None and "pytest_ckptload.finding" in sys.modules and report.failed:
        report.sections.append(("a script that shows it, with torch alone", script))
    if told := allowances_in(item):
        vars(report)[_ALLOWANCES] = told
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [r for o in ("passed", "failed", "xfailed") for r in terminalreporter.getreports(o)]
    sections = {
        title: dict.fromkeys(
            text
            for report in reports
            for name, text in report.user_properties
            if name == f"ckptload_{title}"
        )
        for title in ("note", "advice")
    }
    told = [one for report in reports for one in vars(report).get(_ALLOWANCES, ())]
    if told:
        from pytest_ckptload.allowances import unused_lines

        sections["unused allowances"] = dict.fromkeys(unused_lines(told))
    for title, lines in sections.items():
        if lines:
            terminalreporter.section(f"ckptload: {title}")
        for text in lines:
            terminalreporter.line(text)
