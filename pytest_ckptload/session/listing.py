"""``--ckptload-rules`` and ``--ckptload-rule``: shown in the place of a session.

Apart from the plugin, which stays small, and from the text, which knows no pytest.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import pytest

__all__ = ["show_rules"]


def show_rules(config: pytest.Config) -> int:
    """Show all rules, or explain the one that is asked for; those of the project are among them.

    Raises ``pytest.UsageError`` where there is no such rule.
    """
    # As pytest does for --markers: hooks are asked for rules once all that is configured is there.
    config._do_configure()
    with warnings.catch_warnings():
        # Of torch without numpy, at import: nothing to do with loading, and nobody asked.
        warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
        from pytest_ckptload.rules import RULES
    from pytest_ckptload.report.rule_text import rule_called, rule_text, rules_text

    name = config.option.ckptload_rule
    lines: Iterable[str]
    if name is None:
        lines = rules_text(RULES.values())
    else:
        try:
            lines = rule_text(rule_called(name, RULES))
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None
    writer = config.get_terminal_writer()
    for line in lines:
        writer.line(line)
    return pytest.ExitCode.OK
