"""Rules of projects: the hook, what it accepts, and what becomes of their findings and errors."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from torch import nn

import pytest_ckptload
from pytest_ckptload import Broken, Comparison, Rule
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.recipes import eager
from pytest_ckptload.rules import RULES
from pytest_ckptload.rules.own import forget, join


def named(comparison):
    for place, _ in comparison.shared:
        yield Broken(place.name, "here it is")


RULE = Rule(
    code="ACME101",
    name="a-name",
    on=Comparison,
    statement="Nothing has a name.",
    explanation="A name is where a loader begins.",
    cause="Somebody gave it one.",
    fix="Take it back.",
    find=named,
)


def make_model():
    return nn.Linear(2, 2)


@pytest.fixture
def joined():
    """Joins rules, which leave when the test is over."""
    rules = []

    def joined(**changes):
        rule = replace(RULE, **changes)
        join(rule)
        rules.append(rule)

    yield joined
    for rule in rules:
        forget(rule)


def check(**arguments):
    checker = Checker(Defaults(max_examples=0, isolation=arguments.pop("isolation", "auto")))
    return checker.check(eager, build=make_model, features=[], **arguments)


# --- joining


def test_it_judges_after_the_rules_of_the_plugin(joined):
    joined(code="ACME909", name="another")
    joined()
    assert list(RULES)[-2:] == ["ACME101", "ACME909"]
    assert list(RULES)[:-2] == sorted(RULES)[2:]


def test_its_finding_is_told_as_any_other(joined):
    joined(references=("acme/loader#7",))
    with pytest.raises(CheckpointMismatch) as caught:
        check()
    finding = caught.value.findings[0]
    assert (finding.code, finding.rule, finding.place) == ("ACME101", "a-name", "weight")
    for part in ("ACME101 a-name\n  at    weight", RULE.cause, RULE.fix, "acme/loader#7"):
        assert part in caught.value.report
    assert RULE.statement in caught.value.script
    compile(caught.value.script, "script.py", "exec")


def test_it_may_advise_and_be_allowed(joined):
    joined(advice=True)
    assert [finding.code for finding in check().advice] == ["ACME101"]
    report = check(allow={"ACME101 weight": "why", "ACME101 bias": "why"})
    assert not report.advice
    assert not report.unused


def test_all_that_rules_judge_has_a_public_name():
    for rule in RULES.values():
        assert getattr(pytest_ckptload, rule.on.__name__) is rule.on


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": "acme1"}, "rule 'acme1': a code is capital letters and three digits, as ACME101"),
        ({"code": "A1011"}, "rule 'A1011': a code is "),
        ({"code": 101}, "rule 101: a code is "),
        ({"code": "CKPT101"}, "rule 'CKPT101': codes that begin with CKPT are the plugin's own"),
        ({"code": "CKPT199"}, "rule 'CKPT199': codes that begin with CKPT are the plugin's own"),
        ({"name": "Not Zero"}, "rule ACME101: name='Not Zero'; a name is lower-case words"),
        ({"name": ""}, "rule ACME101: name=''; a name is"),
        ({"name": "tie-lost"}, "rule ACME101: there is a rule 'tie-lost' already: CKPT401"),
        ({"statement": " "}, "rule ACME101 a-name: statement=' '; it has to say something"),
        ({"fix": None}, "rule ACME101 a-name: fix=None; it has to say something"),
        ({"on": int}, "rule ACME101 a-name: on=<class 'int'>; there are: Comparison, "),
        ({"find": "named"}, "rule ACME101 a-name: find='named'; it has to be a function"),
        ({"references": "a#1"}, "rule ACME101 a-name: references='a#1'; expected a tuple"),
    ],
)
def test_what_is_no_rule_is_refused(changes, message):
    before = dict(RULES)
    with pytest.raises(ValueError, match=re.escape(message)):
        join(replace(RULE, **changes))
    assert before == RULES


def test_a_code_is_given_once(joined):
    joined()
    with pytest.raises(ValueError, match="there is a rule ACME101 already: a-name"):
        joined()
    forget(RULE)
    join(RULE)


# --- rules that fail


def dividing(comparison):
    return [Broken("weight", 1 / 0)]


@pytest.mark.parametrize("isolation", ["worker", "off"])
def test_an_error_says_which_rule_it_was(joined, isolation):
    joined(find=dividing)
    with pytest.raises(RuntimeError) as caught:
        check(isolation=isolation)
    assert str(caught.value) == "rule ACME101 a-name raised ZeroDivisionError: division by zero"
    cause = caught.value.__cause__
    if isolation == "worker":
        assert "in dividing" in str(cause)  # the traceback came along
    else:
        assert isinstance(cause, ZeroDivisionError)


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lambda comparison: None, "raised TypeError: 'NoneType' object is not iterable"),
        (lambda comparison: ["weight"], "expected a pytest_ckptload.Broken for each place, not "),
    ],
)
def test_what_is_no_place_is_an_error_too(joined, find, message):
    joined(find=find)
    with pytest.raises((RuntimeError, TypeError), match=f"rule ACME101 a-name:? {message}"):
        check()


# --- the hook

CONFTEST = """
from pytest_ckptload import Attempt, Broken, Comparison, Rule

TEXTS = dict(
    statement="It is ours.", explanation="Ours.", cause="Ours as well.", fix="Do as we do."
)

def found(comparison):
    for name, place in comparison.actual.places.items():
        if place.kind == "parameter":
            yield Broken(name, "here it is")

def pytest_ckptload_rules(config):
    return [Rule("ACME301", "a-parameter", Comparison, **TEXTS, find=found)]
"""

TESTS = """
    import pytest
    from torch import nn
    from pytest_ckptload import CheckpointMismatch, assert_modules_equal
    from pytest_ckptload.recipes import mmap

    def test_without_a_check():
        with pytest.raises(CheckpointMismatch, match="ACME301"):
            assert_modules_equal(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))

    def test_fails(ckptload):
        ckptload.check(mmap, features=["scalar"], max_examples=0)

    def test_passes(ckptload):
        allow = {"ACME301": "it is only a test"}
        ckptload.check(mmap, features=["scalar"], max_examples=0, allow=allow)
"""


@pytest.fixture
def run(pytester):
    pytester.makeconftest(CONFTEST)

    def run(*arguments):
        return pytester.runpytest_inprocess("-p", "no:benchmark", *arguments)

    return run


@pytest.mark.parametrize("arguments", [(), ("-n1",), ("--ckptload-isolation=off",)])
def test_a_project_adds_a_rule(run, pytester, arguments):
    pytester.makepyfile(TESTS)
    result = run(*arguments)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*ACME301 a-parameter", "*here it is"])
    assert "ACME301" not in RULES  # with the session it is gone


def test_it_is_listed_and_explained(run):
    result = run("--ckptload-rules")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["3xx: structure", "  CKPT301 *", "  ACME301 a-parameter  *It is ours.", "", "4xx: *"]
    )
    result = run("--ckptload-rule=acme301")
    assert result.outlines[:2] == ["ACME301 a-parameter", "It is ours."]
    assert "ACME301" not in RULES


def test_it_joins_the_suite_and_the_header_says_so(run):
    result = run("ckptload::mmap::scalar")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["ckptload: torch *, 0 models, 1 rule added, 1 device (cpu), isolation *"]
    )


def test_one_that_comes_late_judges_all_the_same(run, pytester):
    """In a folder that is not looked into before collection."""
    folder = pytester.mkdir("deeper")
    pytester.path.joinpath("conftest.py").rename(folder / "conftest.py")
    pytester.makepyfile(TESTS)
    folder.joinpath("test_deeper.py").write_text("def test_it(): pass")
    run().assert_outcomes(passed=3, failed=1)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("['tie-lost']", "expected pytest_ckptload.Rule, not 'tie-lost'"),
        ("5", "expected a list of pytest_ckptload.Rule, not 5"),
        (
            "[Rule('CKPT999', 'ours', Comparison, **TEXTS, find=found)]",
            "rule 'CKPT999': codes that begin with CKPT are the plugin's own; *",
        ),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("-n1",), ("--ckptload-rules",)])
def test_what_is_no_new_rule_is_refused(run, pytester, answer, message, arguments):
    pytester.makeconftest(CONFTEST + f"\ndef pytest_ckptload_rules(config):\n    return {answer}")
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: pytest_ckptload_rules: {message}"])


def test_an_error_in_a_rule_ends_its_test_and_no_other(run, pytester):
    pytester.makeconftest(CONFTEST.replace("for name, place", "1 / 0\n    for name, place"))
    pytester.makepyfile(
        """
        from pytest_ckptload.recipes import mmap

        def test_broken(ckptload):
            ckptload.check(mmap, features=["scalar"], max_examples=0)

        def test_other():
            pass
        """
    )
    result = run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*conftest.py*in found*", "*rule ACME301 a-parameter raised ZeroDivisionError: *"]
    )
