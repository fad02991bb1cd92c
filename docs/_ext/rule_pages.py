"""Pages and tables that are written from the package itself, each time the docs are built.

One page per rule (``reference/rules/CKPTnnn.md``), and the tables of rules, features, faults and
divergences that hand-written pages include from ``_generated/``. Apart from ``conf.py`` so that the
tests can import it: the examples on the generated pages are run like those of every other page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_ckptload.report.rule_text import Described, about, address, consequence, parts

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = [
    "cause_table",
    "divergence_table",
    "fault_table",
    "feature_table",
    "rule_page",
    "rule_table",
    "setup",
    "write",
]


class _Feature(Protocol):
    """What of a feature is shown."""

    name: str
    of: str
    sentence: str
    references: tuple[str, ...]


class _Fault(Protocol):
    """What of a fault is shown."""

    code: str
    name: str
    sentence: str
    references: tuple[str, ...]


class _Divergence(Protocol):
    """What of a divergence is shown."""

    code: str
    feature: str | None
    classes: frozenset[str]
    beside: str | None
    recipes: tuple[str, ...]
    issue: str
    reason: str
    since: str
    until: str | None


class _Where(Protocol):
    """What of the reach of an explanation is shown."""

    words: str


class _Cause(Protocol):
    """What of an explanation is shown."""

    codes: tuple[str, ...]
    effects: tuple[str, ...]
    where: _Where
    why: str


def rule_page(rule: Described) -> str:
    """The page of one rule, in MyST."""
    sections = [
        f"({rule.code.lower()})=",
        f"# {rule.code} {rule.name}",
        f"**{rule.statement}**",
        f"*About {about(rule.code)}. {consequence(rule)}*",
    ]
    for title, text in parts(rule):
        sections += [f"## {title}", _example(rule.code, text) if title == "Example" else text]
    if rule.references:
        sections += ["## Seen in", "\n".join(f"- {_link(name)}" for name in rule.references)]
    return "\n\n".join(sections) + "\n"


def rule_table(rules: Iterable[Described]) -> str:
    """All rules, a row each, in the order of their codes."""
    rows = [
        (
            f"[{rule.code}](#{rule.code.lower()})",
            rule.name,
            rule.statement + (" *(advice)*" if rule.advice else ""),
        )
        for rule in sorted(rules, key=lambda rule: rule.code)
    ]
    return _table(("code", "name", "what holds"), rows)


def feature_table(features: Iterable[_Feature]) -> str:
    """All features, a row each, in the order they are registered."""
    rows = [
        (
            f"`{feature.name}`",
            feature.of,
            feature.sentence,
            ", ".join(map(_link, feature.references)),
        )
        for feature in features
    ]
    return _table(("feature", "of the", "what a case then contains", "seen in"), rows)


def fault_table(faults: Iterable[_Fault]) -> str:
    """All faults, a row each, in the order of the rules that catch them."""
    rows = [
        (
            f"`{fault.name}`",
            f"[{fault.code}](#{fault.code.lower()})",
            fault.sentence,
            ", ".join(map(_link, fault.references)),
        )
        for fault in sorted(faults, key=lambda fault: fault.code)
    ]
    return _table(("fault", "rule", "what it does", "bugs it re-enacts"), rows)


def divergence_table(divergences: Iterable[_Divergence]) -> str:
    """All that torch itself gets wrong, a row each."""
    rows = [
        (
            f"[{line.code}](#{line.code.lower()})",
            _met_with(line),
            line.reason,
            ", ".join(f"`{recipe}`" for recipe in line.recipes),
            f"from {line.since}" + (f", before {line.until}" if line.until else ""),
            _link(line.issue),
        )
        for line in divergences
    ]
    return _table(("rule", "feature", "what happens", "recipes", "torch", "upstream"), rows)


def _met_with(line: _Divergence) -> str:
    """What a case has in it that meets a divergence: features, or else certain classes."""
    names = [line.feature, line.beside] if line.feature else sorted(line.classes)
    return (" with " if line.feature else ", ").join(f"`{name}`" for name in names if name)


def cause_table(causes: Iterable[_Cause]) -> str:
    """What explains what, a row each, in the order in which they count."""
    rows = [
        (_codes(line.codes), _codes(line.effects), line.where.words, line.why) for line in causes
    ]
    return _table(("a finding of", "explains those of", "where", "because"), rows)


def _codes(codes: Iterable[str]) -> str:
    """Codes as links; those that are cut short stand for all that begin so."""
    return ", ".join(
        f"[{code}](#{code.lower()})" if len(code) == 7 else code.ljust(7, "x") for code in codes
    )


def write(
    docs: Path,
    rules: Mapping[str, Described],
    features: Mapping[str, _Feature],
    faults: Mapping[str, _Fault],
    divergences: Iterable[_Divergence],
    causes: Iterable[_Cause],
) -> None:
    """Write every generated file below ``docs``, and take away pages of rules that are gone."""
    pages = docs / "reference" / "rules"
    wanted = {pages / f"{rule.code}.md": rule_page(rule) for rule in rules.values()}
    if pages.is_dir():
        for stale in set(pages.glob("*.md")) - set(wanted):
            stale.unlink()
    wanted[docs / "_generated" / "rules.inc"] = rule_table(rules.values())
    wanted[docs / "_generated" / "features.inc"] = feature_table(features.values())
    wanted[docs / "_generated" / "faults.inc"] = fault_table(faults.values())
    wanted[docs / "_generated" / "divergences.inc"] = divergence_table(divergences)
    wanted[docs / "_generated" / "causes.inc"] = cause_table(causes)
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Left alone where nothing changed, so that Sphinx need not read it again.
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Have the files written before Sphinx looks for its sources."""
    app.connect("builder-inited", _on_builder_inited)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _on_builder_inited(app: Sphinx) -> None:
    from pytest_ckptload.faults import FAULTS
    from pytest_ckptload.rules import RULES
    from pytest_ckptload.rules.causes import CAUSES
    from pytest_ckptload.suite.divergences import DIVERGENCES
    from pytest_ckptload.zoo import FEATURES

    write(Path(app.srcdir), RULES, FEATURES, FAULTS, DIVERGENCES, CAUSES)


def _example(code: str, example: str) -> str:
    """A rule's example: Markdown, or bare code, which is a test that the rule fails."""
    if "```" in example:
        return example
    tests = re.search(r"^(?:def test_|class Test)", example, flags=re.MULTILINE)
    marker = f"<!-- fails: {code} -->" if tests else "<!-- not run: a fragment -->"
    return f"{marker}\n```python\n{example}\n```"


def _link(reference: str) -> str:
    """``owner/repo#number`` as a link to that thread; anything else as it is."""
    url = address(reference)
    return reference if url is None else f"[{reference}]({url})"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = ([" ".join(cell.split()).replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"
