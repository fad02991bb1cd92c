"""Rules of projects: what they have to be, and how they join and leave.

Apart from the plugin's own rules, which are registered when they are imported and stay.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import replace

from pytest_ckptload.printable import described
from pytest_ckptload.rules.rule import RULES, Broken, Rule

__all__ = ["forget", "join"]

_OURS = "CKPT"
_CODE = re.compile(r"[A-Z]{2,}\d{3}")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TEXTS = ("statement", "explanation", "cause", "fix")


def join(rule: Rule) -> None:
    """Make a project's rule one of those that judge, after the plugin's own.

    Raises ``ValueError`` where its code or name is taken or is none, or something is left out.
    """
    _check(rule)
    RULES[rule.code] = replace(rule, find=functools.partial(_found, rule))
    for code in sorted(RULES, key=lambda code: (not code.startswith(_OURS), code)):
        RULES[code] = RULES.pop(code)


def forget(rule: Rule) -> None:
    """Undo what ``join`` did."""
    del RULES[rule.code]


def _check(rule: Rule) -> None:
    code, name = rule.code, rule.name
    if not _CODE.fullmatch(str(code)):
        raise ValueError(f"rule {code!r}: a code is capital letters and three digits, as ACME101")
    if code.startswith(_OURS):
        raise ValueError(
            f"rule {code!r}: codes that begin with {_OURS} are the plugin's own; begin with "
            "letters of yours, as ACME101"
        )
    if code in RULES:
        raise ValueError(f"there is a rule {code} already: {RULES[code].name}")
    if not _NAME.fullmatch(str(name)):
        raise ValueError(
            f"rule {code}: name={name!r}; a name is lower-case words joined by hyphens, as tie-lost"
        )
    if taken := [other.code for other in RULES.values() if other.name == name]:
        raise ValueError(f"rule {code}: there is a rule {name!r} already: {taken[0]}")
    for part in _TEXTS:
        text = getattr(rule, part)
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"rule {code} {name}: {part}={text!r}; it has to say something")
    kinds = {known.on.__name__: known.on for known in RULES.values()}
    if rule.on not in kinds.values():
        raise ValueError(f"rule {code} {name}: on={rule.on!r}; there are: {', '.join(kinds)}")
    if not callable(rule.find):
        raise ValueError(f"rule {code} {name}: find={rule.find!r}; it has to be a function")
    if isinstance(rule.references, str):
        raise ValueError(
            f"rule {code} {name}: references={rule.references!r}; expected a tuple of texts"
        )


def _found(rule: Rule, facts: object) -> Iterator[Broken]:
    """What a project's rule finds. An error of its own says which rule it comes from."""
    try:
        found = list(rule.find(facts))
    except Exception as error:
        raise RuntimeError(f"rule {rule.code} {rule.name} raised {described(error)}") from error
    for broken in found:
        if not isinstance(broken, Broken):
            raise TypeError(
                f"rule {rule.code} {rule.name}: expected a pytest_ckptload.Broken for each place, "
                f"not {broken!r}"
            )
        yield broken
