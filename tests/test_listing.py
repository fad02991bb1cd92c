"""`--ckptload-rules` and `--ckptload-rule`: the rules at the command line, and on their pages."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_ckptload.report.rule_text import rule_called, rule_text, rules_text
from pytest_ckptload.rules import RULES


@pytest.fixture
def run(pytester):
    def run(*arguments):
        return pytester.runpytest_inprocess("-p", "no:benchmark", *arguments)

    return run


def words(text):
    return " ".join(text.split())


# --- the list


def test_every_rule_is_listed_with_what_holds():
    text = words("\n".join(rules_text(RULES.values())))
    for rule in RULES.values():
        mark = " (advice)" if rule.advice else ""
        assert f"{rule.code} {rule.name}{mark} {words(rule.statement)}" in text
    assert "CKPT307 mode-changed (advice)" in text


def test_they_are_grouped_by_hundred():
    lines = list(rules_text(RULES.values()))
    group = ""
    for line in lines:
        if title := re.fullmatch(r"(\d)xx: [a-z ]+", line):
            group = title[1]
        elif code := re.match(r"  CKPT(\d)\d\d ", line):
            assert code[1] == group
    assert "4xx: aliasing" in lines
    assert max(map(len, lines)) <= 96


def test_the_list_is_shown_in_place_of_a_session(run, pytester):
    pytester.makepyfile("raise SystemExit('collected')")
    result = run("--ckptload-rules")
    assert result.ret == pytest.ExitCode.OK
    assert result.outlines == [*rules_text(RULES.values())]
    assert not result.errlines


@pytest.mark.parametrize(
    "arguments", [("-n2",), ("--ckptload", "--ckptload-features=tide"), ("--ckptload-coverage",)]
)
def test_nothing_else_runs_whatever_else_is_asked_for(run, arguments):
    result = run("--ckptload-rules", *arguments)
    assert result.ret == pytest.ExitCode.OK
    assert "test session starts" not in result.stdout.str()


def test_it_works_in_an_empty_folder_by_the_name_of_the_plugin(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess("-p", "ckptload", "--ckptload-rules")
    assert result.ret == pytest.ExitCode.OK
    assert result.stderr.str() == ""
    result.stdout.fnmatch_lines(["1xx: values", "  CKPT101 bits-differ *"])


# --- one of them


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.code)
def test_all_that_is_known_of_a_rule_is_told(rule):
    text = words("\n".join(rule_text(rule)))
    for part in (rule.statement, rule.explanation, rule.cause, rule.fix):
        assert words(part) in text
    for reference in rule.references:
        assert reference.replace("#", "/issues/") in text
    assert ("Advice:" in text) == rule.advice
    assert text.endswith(f"In the docs: reference/rules/{rule.code}")


def test_an_example_is_told_without_the_marks_of_its_page():
    example = "<!-- fails: CKPT401 -->\n```python\ndef test_it():\n    pass\n```"
    lines = list(rule_text(replace(RULES["CKPT401"], example=example)))
    shown = lines[lines.index("Example") + 1 : lines.index("Likely cause")]
    assert shown == ["  def test_it():", "      pass", ""]


@pytest.mark.parametrize("name", ["CKPT401", "ckpt401", "tie-lost", "Tie-Lost", " CKPT401 "])
def test_a_rule_goes_by_its_code_and_by_its_name(name):
    assert rule_called(name, RULES) is RULES["CKPT401"]


def test_it_is_explained_in_place_of_a_session(run):
    result = run("--ckptload-rule=tie-lost")
    assert result.ret == pytest.ExitCode.OK
    assert result.outlines == [*rule_text(RULES["CKPT401"])]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("tie-last", "the nearest are: CKPT401 tie-lost; "),
        ("CKPT4O1", "the nearest are: CKPT401 tie-lost, *; "),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_what_is_no_rule_is_one_sentence(run, name, nearest):
    result = run(f"--ckptload-rule={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert len(result.errlines) == 2
    result.stderr.fnmatch_lines(
        [f"ERROR: there is no rule '{name}'; {nearest}--ckptload-rules lists them all"]
    )
    assert not result.outlines


# --- the pages


def pages():
    path = Path(__file__).parent.parent / "docs" / "_ext" / "rule_pages.py"
    spec = importlib.util.spec_from_file_location("rule_pages", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("code", ["CKPT401", "CKPT307"])
def test_a_page_says_what_the_option_says(code):
    rule = RULES[code]
    page = words(pages().rule_page(rule))
    for line in "\n".join(rule_text(rule)).split("\n\n"):
        # Neither headings nor the list of threads, which look otherwise there.
        if line.startswith(("About", "Why", "Likely", "Fix")):
            title, _, text = line.partition("\n  ")
            assert words(text or title) in page


def test_a_rule_of_a_project_has_a_page_as_well():
    rule = replace(RULES["CKPT401"], code="ACME404", name="tie-torn", references=("a book",))
    page = pages().rule_page(rule)
    assert page.startswith("(acme404)=\n\n# ACME404 tie-torn\n")
    assert "*About aliasing. A failure.*" in page
    assert "- a book\n" in page
    assert "| [ACME404](#acme404) | tie-torn |" in pages().rule_table([rule])
    assert not any("In the docs" in line for line in rule_text(rule))


def test_the_table_of_faults_has_each_with_its_rule_and_its_bugs():
    from pytest_ckptload.faults import FAULTS

    rows = pages().fault_table(FAULTS.values()).splitlines()[2:]
    assert len(rows) == len(FAULTS)
    codes = [re.search(r"\[(CKPT\d{3})\]", row)[1] for row in rows]
    assert codes == sorted(codes)
    for fault in FAULTS.values():
        (row,) = (row for row in rows if row.startswith(f"| `{fault.name}` |"))
        assert f"| [{fault.code}](#{fault.code.lower()}) | {fault.sentence} |" in row
        assert all(f"[{name}](https://github.com/" in row for name in fault.references)


def test_no_bug_is_both_re_enacted_and_not():
    from pytest_ckptload.faults import SOURCES

    page = Path(__file__).parent.parent / "docs" / "reference" / "faults.md"
    left_out = re.findall(r"\[([\w.-]+/[\w.-]+#\d+)\]", page.read_text(encoding="utf-8"))
    assert left_out
    assert SOURCES.keys().isdisjoint(left_out)


def test_the_table_of_divergences_says_of_which_releases_and_with_what():
    from pytest_ckptload.suite.divergences import Divergence

    def row(**changes):
        given = {"code": "CKPT401", "feature": "tied", "recipes": ("mmap",), "reason": "why"}
        line = Divergence(**{**given, "issue": "pytorch/pytorch#1", **changes})
        return pages().divergence_table([line]).splitlines()[-1]

    assert "| `tied` |" in row()
    assert "| from 2.1 |" in row()
    assert "| from 2.4, before 2.14 |" in row(since="2.4", until="2.14")
    assert "| `tied` with `views` |" in row(beside="views")
    assert "| `GRU`, `RNN` |" in row(feature=None, classes=frozenset({"RNN", "GRU"}))
