"""What is said of a rule where nothing has failed: the list of all rules, and the page of one.

Apart from the failure message, which tells findings. The docs are written from the same parts, so
that option and page say the same. Knows neither pytest nor torch: rules are handed in.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

__all__ = [
    "ABOUT",
    "Described",
    "about",
    "address",
    "consequence",
    "parts",
    "rule_called",
    "rule_text",
    "rules_text",
]

_WIDTH = 96

ABOUT = {
    "1": "values",
    "2": "tensors",
    "3": "structure",
    "4": "aliasing",
    "5": "optimizers",
    "6": "laziness",
    "7": "the file",
    "8": "robustness",
    "9": "behaviour",
    "0": "other things",
}
"""What the rules of each hundred are about."""


class Described(Protocol):
    """What of a rule is shown."""

    @property
    def code(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def statement(self) -> str: ...
    @property
    def explanation(self) -> str: ...
    @property
    def example(self) -> str: ...
    @property
    def cause(self) -> str: ...
    @property
    def fix(self) -> str: ...
    @property
    def references(self) -> tuple[str, ...]: ...
    @property
    def advice(self) -> bool: ...


AnyRule = TypeVar("AnyRule", bound=Described)


def about(code: str) -> str:
    """What a rule is about, by the hundred of its code."""
    return ABOUT[code[-3]]


def consequence(rule: Described) -> str:
    """What becomes of a check that finds the rule broken."""
    if rule.advice:
        return "Advice: shown, and no failure unless `--ckptload-strict` is given."
    return "A failure."


def parts(rule: Described) -> list[tuple[str, str]]:
    """The sections below a rule's statement, each with its title; those that are empty left out."""
    sections = [
        ("Why it matters", rule.explanation),
        ("Example", rule.example.strip("\n")),
        ("Likely cause", rule.cause),
        ("Fix", rule.fix),
    ]
    return [(title, text) for title, text in sections if text.strip()]


def address(reference: str) -> str | None:
    """Where to read ``owner/repo#number``; ``None`` for any other reference."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)#(\d+)", reference)
    return None if match is None else f"https://github.com/{match[1]}/issues/{match[2]}"


def rules_text(rules: Iterable[Described]) -> Iterator[str]:
    """The lines of a list of all rules, by what they are about."""
    groups: dict[str, list[Described]] = {number: [] for number in ABOUT}
    for rule in rules:
        groups[rule.code[-3]].append(rule)
    heads = {rule.code: _head(rule) for group in groups.values() for rule in group}
    width = max(map(len, heads.values())) + 2
    for number, group in groups.items():
        if not group:
            continue
        yield f"{number}xx: {ABOUT[number]}"
        for rule in group:
            head = f"  {heads[rule.code]:<{width}}"
            yield from _wrapped(rule.statement, head, " " * len(head))
        yield ""
    yield "--ckptload-rule=CODE explains one."


def rule_text(rule: Described) -> Iterator[str]:
    """The lines that explain one rule."""
    yield _head(rule)
    yield from _wrapped(rule.statement)
    yield ""
    yield from _wrapped(f"About {about(rule.code)}. {consequence(rule)}")
    for title, text in parts(rule):
        yield ""
        yield title
        yield from _code(text) if title == "Example" else _wrapped(text, "  ")
    if rule.references:
        yield ""
        yield "Seen in"
        yield from (f"  {address(reference) or reference}" for reference in rule.references)
    if rule.code.startswith("CKPT"):
        yield ""
        yield f"In the docs: reference/rules/{rule.code}"


def rule_called(name: str, rules: Mapping[str, AnyRule]) -> AnyRule:
    """The rule with this code or name, in whatever case.

    Raises ``ValueError`` where there is none, with those that are spelt much alike.
    """
    by_name = {text.lower(): rule for code, rule in rules.items() for text in (code, rule.name)}
    wanted = name.strip().lower()
    if wanted in by_name:
        return by_name[wanted]
    near = [by_name[text] for text in difflib.get_close_matches(wanted, by_name)]
    alike = dict.fromkeys(f"{rule.code} {rule.name}" for rule in near)
    nearest = f"the nearest are: {', '.join(alike)}; " if alike else ""
    raise ValueError(f"there is no rule {name!r}; {nearest}--ckptload-rules lists them all")


def _head(rule: Described) -> str:
    return f"{rule.code} {rule.name}{' (advice)' if rule.advice else ''}"


def _wrapped(text: str, first: str = "", other: str | None = None) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=first if other is None else other,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _code(example: str) -> Iterator[str]:
    """An example without the marks of Markdown."""
    for line in example.splitlines():
        if not line.lstrip().startswith(("```", "<!--")):
            yield f"  {line}".rstrip()
