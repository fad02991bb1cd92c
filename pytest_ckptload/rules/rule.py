"""What a rule is, and the one place where all of them are registered.

Apart from the rules so that each file of rules holds rules and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pytest_ckptload.finding import Finding

__all__ = ["RULES", "Broken", "Rule", "judge", "rule"]


@dataclass(frozen=True)
class Broken:
    """A place where a rule is broken, and the evidence.

    ``cause`` and ``fix`` replace the rule's own where more is known; ``demanded`` says that the
    rule, which advises otherwise, was promised.
    """

    place: str
    evidence: str
    names: tuple[str, ...] = ()
    cause: str | None = None
    fix: str | None = None
    demanded: bool = False


@dataclass(frozen=True)
class Rule:
    """One kind of difference: how it is found and what is to be said of it.

    ``on`` is the kind of facts it judges: ``Comparison``, ``Ending``, or one of those in
    ``facts.py``. ``find`` is given such facts, changes nothing, and
    returns or yields the places where the rule is broken. ``references`` are threads, as
    ``owner/repo#1``, or other texts.
    """

    code: str
    name: str
    on: type
    statement: str
    explanation: str
    cause: str
    fix: str
    find: Callable[[Any], Iterable[Broken]]
    references: tuple[str, ...] = ()
    advice: bool = False
    example: str = ""

    def findings(self, facts: object) -> list[Finding]:
        """The places in ``facts`` where this rule is broken."""
        return [
            Finding(
                self.code,
                self.name,
                broken.place,
                broken.evidence,
                broken.cause or self.cause,
                broken.fix or self.fix,
                broken.names or (broken.place,),
                self.advice and not broken.demanded,
            )
            for broken in self.find(facts)
        ]


RULES: dict[str, Rule] = {}
"""Every rule by its code, in their order."""


def rule(
    code: str,
    name: str,
    on: type,
    *,
    statement: str,
    explanation: str,
    cause: str,
    fix: str,
    references: tuple[str, ...] = (),
    advice: bool = False,
    example: str = "",
) -> Callable[[Callable[[Any], Iterable[Broken]]], Callable[[Any], Iterable[Broken]]]:
    """Register the decorated function as the way to find a rule broken."""

    def register(find: Callable[[Any], Iterable[Broken]]) -> Callable[[Any], Iterable[Broken]]:
        if code in RULES:
            raise ValueError(f"there is a rule {code} already: {RULES[code].name}")
        RULES[code] = Rule(
            code, name, on, statement, explanation, cause, fix, find, references, advice, example
        )
        for earlier in sorted(RULES):  # whatever the order of imports
            RULES[earlier] = RULES.pop(earlier)
        return find

    return register


def judge(facts: object) -> list[Finding]:
    """All findings of all rules that speak about this kind of facts, in the order of codes."""
    return [
        finding
        for known in RULES.values()
        if isinstance(facts, known.on)
        for finding in known.findings(facts)
    ]
