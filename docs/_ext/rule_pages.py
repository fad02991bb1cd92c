"""Pages and tables that are written from the package itself, each time the docs are built.

One page per rule (``reference/rules/CKPTnnn.md``), and the tables of rules, features and
divergences that hand-written pages include from ``_generated/``. Apart from ``conf.py`` so that the
tests can import it: the examples on the generated pages are run like those of every other page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["divergence_table", "feature_table", "rule_page", "rule_table", "setup", "write"]

HUNDREDS = {
    "1": "values",
    "2": "tensors",
    "3": "structure",
    "4": "aliasing",
    "5": "optimizers",
    "6": "laziness",
    "7": "the file",
    "8": "robustness",
    "9": "behaviour",
}


class _Rule(Protocol):
    """What of a rule is shown."""

    code: str
    name: str
    statement: str
    explanation: str
    example: str
    cause: str
    fix: str
    references: tuple[str, ...]
    advice: bool


class _Feature(Protocol):
    """What of a feature is shown."""

    name: str
    of: str
    sentence: str
    references: tuple[str, ...]


class _Divergence(Protocol):
    """What of a divergence is shown."""

    code: str
    feature: str
    recipes: tuple[str, ...]
    issue: str
    reason: str


def rule_page(rule: _Rule) -> str:
    """The page of one rule, in MyST."""
    kind = (
        "Advice: shown, and no failure unless `--ckptload-strict` is given."
        if rule.advice
        else "A failure."
    )
    parts = [
        f"({rule.code.lower()})=",
        f"# {rule.code} {rule.name}",
        f"**{rule.statement}**",
        f"*About {_about(rule.code)}. {kind}*",
        "## Why it matters",
        rule.explanation,
        *(["## Example", _example(rule)] if rule.example.strip() else []),
        "## Likely cause",
        rule.cause,
        "## Fix",
        rule.fix,
    ]
    if rule.references:
        parts += ["## Seen in", "\n".join(f"- {_link(name)}" for name in rule.references)]
    return "\n\n".join(parts) + "\n"


def rule_table(rules: Iterable[_Rule]) -> str:
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


def divergence_table(divergences: Iterable[_Divergence]) -> str:
    """All that torch itself gets wrong, a row each."""
    rows = [
        (
            f"[{line.code}](#{line.code.lower()})",
            f"`{line.feature}`",
            line.reason,
            ", ".join(f"`{recipe}`" for recipe in line.recipes),
            _link(line.issue),
        )
        for line in divergences
    ]
    return _table(("rule", "feature", "what happens", "recipes", "upstream"), rows)


def write(
    docs: Path,
    rules: Mapping[str, _Rule],
    features: Mapping[str, _Feature],
    divergences: Iterable[_Divergence],
) -> None:
    """Write every generated file below ``docs``, and take away pages of rules that are gone."""
    pages = docs / "reference" / "rules"
    wanted = {pages / f"{rule.code}.md": rule_page(rule) for rule in rules.values()}
    if pages.is_dir():
        for stale in set(pages.glob("*.md")) - set(wanted):
            stale.unlink()
    wanted[docs / "_generated" / "rules.inc"] = rule_table(rules.values())
    wanted[docs / "_generated" / "features.inc"] = feature_table(features.values())
    wanted[docs / "_generated" / "divergences.inc"] = divergence_table(divergences)
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
    from pytest_ckptload.rules import RULES
    from pytest_ckptload.suite.divergences import DIVERGENCES
    from pytest_ckptload.zoo import FEATURES

    write(Path(app.srcdir), RULES, FEATURES, DIVERGENCES)


def _example(rule: _Rule) -> str:
    """The rule's example: Markdown, or bare code, which is a test that the rule fails."""
    example = rule.example.strip("\n")
    if "```" in example:
        return example
    tests = re.search(r"^(?:def test_|class Test)", example, flags=re.MULTILINE)
    marker = f"<!-- fails: {rule.code} -->" if tests else "<!-- not run: a fragment -->"
    return f"{marker}\n```python\n{example}\n```"


def _about(code: str) -> str:
    return HUNDREDS.get(code.removeprefix("CKPT")[:1], "other things")


def _link(reference: str) -> str:
    """``owner/repo#number`` as a link to that thread; anything else as it is."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)#(\d+)", reference)
    if match is None:
        return reference
    return f"[{reference}](https://github.com/{match[1]}/issues/{match[2]})"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = ([" ".join(cell.split()).replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"
