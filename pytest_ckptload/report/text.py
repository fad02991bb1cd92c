"""The failure message: what was found, why, what to do, and how to see it again.

Apart from what carries it (an exception, a section of pytest's report) so that every way of running
says the same in the same words.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Sequence

from pytest_ckptload.case import Case
from pytest_ckptload.finding import Finding
from pytest_ckptload.printable import printable
from pytest_ckptload.rules import RULES
from pytest_ckptload.search import Found, Outcome

__all__ = ["failure_text", "findings_text", "replay_command"]

_WIDTH = 96

# What terminals, shells and people still copy.
_LONGEST_COMMAND = 20_000


def failure_text(
    loader: str,
    device: str,
    outcome: Outcome,
    replay: str | None,
    subject: str = "",
    culprit: str = "",
    reference: str = "eager loading",
) -> str:
    """The whole message for a search that failed; ``culprit`` says which ingredient is to blame.

    Without a command that replays it there was one case alone, of which there is nothing to say.
    """
    found = outcome.failure
    assert found is not None
    whose = f" for {subject}" if subject else ""
    parts = [
        f"{loader} does not give the module that {reference} gives{whose} on {device}.",
        findings_text(found.findings),
        *([textwrap.fill(culprit, _WIDTH)] if culprit else []),
        *([_case_text(found.case, subject)] if replay else []),
    ]
    if outcome.flaky:
        parts.append(
            "The finding did not show again when the same case was run again: the loader does not "
            "do the same each time. The case shown is the last that failed."
        )
    if outcome.cut:
        parts.append(
            f"The search ended early, after {outcome.deaths} cases that brought their process "
            "down: there may be a smaller one."
        )
    if outcome.others:
        lines = [f"  {_one_line(other)}" for other in outcome.others]
        parts.append("\n".join(["Other rules broken, each with a case of its own:", *lines]))
    if replay:
        parts.append(f"Replay it with:\n  {replay}")
    return "\n\n".join(parts)


def findings_text(findings: Iterable[Finding]) -> str:
    """Findings in full: a paragraph for each rule, which its findings share with those that they
    explain.
    """
    by_code: dict[str, list[Finding]] = {}
    explained: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.because_of is None:
            by_code.setdefault(finding.code, []).append(finding)
        else:
            explained.setdefault(finding.because_of[0], []).append(finding)
    return "\n\n".join(
        _rule_text(group, explained.get(code, ())) for code, group in by_code.items()
    )


def _rule_text(group: Sequence[Finding], explained: Sequence[Finding], most: int = 5) -> str:
    first = group[0]
    advice = "  (advice)" if first.advice else ""
    lines = [f"{first.code} {first.rule}{advice}"]
    for finding in group[:most]:
        lines += _item("at", f"{finding.place}: {finding.evidence}")
    if len(group) > most:
        lines += _item("", f"… and {len(group) - most} more places")
    if explained:
        lines += _item("also", _places(explained))
    lines += _item("cause", first.cause)
    lines += _item("fix", first.fix)
    known = RULES.get(first.code)
    if known is not None and known.references:
        lines += _item("as in", ", ".join(known.references))
    return "\n".join(lines)


def _places(findings: Sequence[Finding], most: int = 3) -> str:
    """Rules and the places where they are broken, in a line."""
    by_rule: dict[str, list[str]] = {}
    for finding in findings:
        by_rule.setdefault(f"{finding.code} {finding.rule}", []).append(finding.place)
    told = []
    for rule, places in by_rule.items():
        places = list(dict.fromkeys(places))
        more = f" and {len(places) - most} more" if len(places) > most else ""
        told.append(f"{rule} at {', '.join(places[:most])}{more}")
    return "; ".join(told)


def _item(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        initial_indent=f"  {label:<6}",
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _case_text(case: Case, subject: str) -> str:
    module = "" if case.module is not None else f" (the module is {subject})" if subject else ""
    features = f", with {', '.join(case.features)}" if case.features else ""
    shown = textwrap.indent(_broken(case, 0), "  ")
    return f"The smallest case found{features}{module}:\n{shown}"


def _broken(data: object, depth: int) -> str:
    """The ``repr`` of case data over several lines, each argument on its own where it is long."""
    text = repr(data)
    pad = "    " * (depth + 1)
    if len(text) + 4 * depth <= _WIDTH - 4:
        return text
    if hasattr(data, "_departures"):
        inner = [
            f"{name}={_broken(value, depth + 1)}" for name, value in data._departures().items()
        ]
        opening, closing = f"{type(data).__name__}(", ")"
    elif isinstance(data, dict):
        inner = [
            f"{printable(repr(key))}: {_broken(value, depth + 1)}" for key, value in data.items()
        ]
        opening, closing = "{", "}"
    elif isinstance(data, tuple):
        inner = [_broken(value, depth + 1) for value in data]
        opening, closing = "(", ",)" if len(data) == 1 else ")"
    else:
        return printable(text)
    return opening + "\n" + ",\n".join(pad + item for item in inner) + closing


def _one_line(found: Found) -> str:
    first = found.findings[0]
    features = ", ".join(found.case.features) or "a plain case"
    return printable(f"{first.code} {first.rule} at {first.place} ({features})")


def replay_command(node: str | None, options: Sequence[str], case: Case) -> str:
    """The command that runs one case again, without Hypothesis."""
    words = ["pytest", *options]
    if node is not None:
        words.append(node)
    text = case.to_json()
    if len(text) <= _LONGEST_COMMAND:
        return shlex.join([*words, f"--ckptload-replay={text}"])
    where = f"where case.json holds what `.case.to_json()` of the error gives, {len(text)} bytes"
    return f"{shlex.join([*words, '--ckptload-replay=case.json'])}\n  ({where})"
