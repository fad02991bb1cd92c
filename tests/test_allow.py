"""Allowances: how they are spelt, what they cover, and how unused ones are told."""

from __future__ import annotations

import re
import textwrap

import pytest
from torch import nn

from pytest_ckptload.allowances import Allowances, allowances, unused_lines
from pytest_ckptload.case import Case
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.finding import CheckpointMismatch, Finding
from pytest_ckptload.recipes import eager


def finding(code="CKPT203", place="encoder.weight", names=()):
    return Finding(code, "rule", place, "evidence", "cause", "fix", names or (place,))


# --- what they cover


@pytest.mark.parametrize(
    ("key", "covered"),
    [
        ("CKPT203", True),
        ("CKPT204", False),
        ("CKPT203 *", True),
        ("CKPT203 encoder.*", True),
        ("CKPT203 encoder", False),
        ("CKPT203 Encoder.*", False),
        ("CKPT203 *.weight", True),
        ("CKPT203 encoder.?eight", True),
        ("CKPT203 decoder.*", False),
        ("CKPT204 encoder.*", False),
        ("  CKPT203   encoder.* ", True),
    ],
)
def test_a_pattern_follows_the_code(key, covered):
    (allowance,) = allowances({key: "why"})
    assert allowance.covers(finding()) is covered


def test_any_name_that_a_finding_speaks_of_will_do():
    tied = finding("CKPT401", "head.weight = embed.weight", ("head.weight", "embed.weight"))
    for pattern in ("head.*", "embed.*", "head.weight = embed.weight"):
        assert allowances({f"CKPT401 {pattern}": "why"})[0].covers(tied)


def test_they_are_told_as_they_are_spelt():
    given = {"CKPT203": "why", "CKPT203 encoder.*": "why", "CKPT204 *": "why"}
    assert [a.key for a in allowances(given)] == ["CKPT203", "CKPT203 encoder.*", "CKPT204"]


def test_all_that_cover_a_finding_are_used_and_the_first_says_why():
    given = {"CKPT203 encoder.*": "narrow", "CKPT203": "wide", "CKPT203 head.*": "other"}
    allow = Allowances(allowances(given))
    assert allow(finding(), Case()) == "narrow"
    assert allow(finding("CKPT101"), Case()) is None
    assert [a.pattern for a in allow.used] == ["encoder.*", "*"]
    assert [a.pattern for a in allow.unused] == ["head.*"]
    assert allow.reasons == {"CKPT203 encoder.*": "narrow", "CKPT203": "wide"}


def test_what_is_known_anyway_uses_none():
    allow = Allowances(allowances({"CKPT203": "ours"}), lambda finding, case: "torch's own")
    assert allow(finding(), Case()) == "torch's own"
    assert not allow.used
    assert allow.reasons == {"CKPT203": "torch's own"}


def test_one_that_was_used_anywhere_is_not_told():
    told = [
        ("test_a", "CKPT203", "why", False),
        ["test_b", "CKPT203", "why", False],  # as it comes from xdist
        ("test_a", "CKPT203", "why", True),
        ("ckptload_allow", "CKPT204 x", "a\x1b\nb", False),
    ]
    assert unused_lines(told) == [
        "test_b: CKPT203 matched nothing (why)",
        "ckptload_allow: CKPT204 x matched nothing (a\\x1b\\nb)",
    ]


# --- in a check


def make_model():
    return nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 2)})


def halves(*parts):
    def load(build, path, device):
        module = eager(build, path, device)
        for part in parts:
            module[part].half()
        return module

    return load


def check(load, **arguments):
    checker = Checker(Defaults(max_examples=0))
    return checker.check(load, build=make_model, features=[], **arguments)


def test_other_names_are_not_accepted():
    allow = {"CKPT201 encoder.*": "on purpose"}
    report = check(halves("encoder"), allow=allow)
    assert report.allowed == allow
    assert report.unused == {}
    with pytest.raises(CheckpointMismatch) as caught:
        check(halves("encoder", "head"), allow=allow)
    assert {f.place for f in caught.value.findings} == {"head.weight", "head.bias"}


def test_a_report_has_those_that_matched_nothing():
    allow = {"CKPT201 encoder.*": "on purpose", "CKPT201 head.*": "so far", "CKPT401": "no more"}
    report = check(halves("encoder"), allow=allow)
    assert report.allowed == {"CKPT201 encoder.*": "on purpose"}
    assert report.unused == {"CKPT201 head.*": "so far", "CKPT401": "no more"}
    assert check(eager).unused == {}


@pytest.mark.parametrize(
    ("allow", "kind", "message"),
    [
        ({"CKPT201": ""}, ValueError, "allow={'CKPT201': ''}: say why this is accepted, in words"),
        ({"CKPT201": "  "}, ValueError, "say why this is accepted"),
        ({"CKPT201": None}, ValueError, "allow={'CKPT201': None}: say why this is accepted"),
        ({"": "why"}, ValueError, "allow={'': 'why'}: expected the code of a rule"),
        (
            {"tie-lost": "why"},
            ValueError,
            "no rule has the code 'tie-lost': that of tie-lost is CKPT401",
        ),
        ({"CKPT999 x": "why"}, ValueError, "there is no rule 'CKPT999'; the nearest are: CKPT"),
        (["CKPT201"], TypeError, "allow=['CKPT201']: expected rule codes, each with a reason"),
        ("CKPT201", TypeError, "allow='CKPT201': expected rule codes, each with a reason"),
    ],
)
def test_what_says_nothing_is_refused(allow, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        check(eager, allow=allow)


# --- in a session

CODE = """
    import pytest
    from torch import nn
    from pytest_ckptload.recipes import eager, mmap, mmap_meta_assign

    def quick(ckptload, load, features=("tied",), **arguments):
        return ckptload.check(load, features=list(features), max_examples=0, **arguments)
"""


@pytest.fixture
def run(pytester):
    def run(tests, *arguments, ini=""):
        pytester.makeini(f"[pytest]\n{textwrap.dedent(ini)}")
        pytester.makepyfile(test_it=textwrap.dedent(CODE) + textwrap.dedent(tests))
        result = pytester.runpytest_inprocess("-p", "no:benchmark", *arguments)
        lines = [line for line in result.outlines if " matched nothing (" in line]
        assert ("ckptload: unused allowances =" in result.stdout.str()) == bool(lines)
        return result, lines

    return run


EVERYWHERE = pytest.mark.parametrize("arguments", [(), ("-n2",), ("-p", "no:xdist")])


def test_a_check_that_did_not_need_it_is_named(run):
    result, lines = run(
        """
        def test_used(ckptload):
            quick(ckptload, mmap_meta_assign, allow={"CKPT401": "tied again"})

        def test_unused(ckptload):
            quick(ckptload, mmap, allow={"CKPT401": "tied again", "CKPT203 x.*": "kernels"})
        """,
    )
    result.assert_outcomes(passed=2)
    assert lines == [
        "test_it.py::test_unused: CKPT401 matched nothing (tied again)",
        "test_it.py::test_unused: CKPT203 x.* matched nothing (kernels)",
    ]


def test_it_is_no_failure_where_advice_is_one(run):
    result, lines = run(
        """
        def test_unused(ckptload):
            quick(ckptload, mmap, allow={"CKPT401": "tied again"})
        """,
        "--ckptload-strict",
    )
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert len(lines) == 1


@EVERYWHERE
def test_all_cases_of_a_parametrized_test_share_it(run, arguments):
    """Each alone would find some of them unused."""
    _, lines = run(
        """
        @pytest.mark.parametrize("feature", ["tied", "scalar"])
        def test_shared(ckptload, feature):
            allow = {"CKPT401": "tied again", "CKPT203": "kernels"}
            quick(ckptload, mmap_meta_assign, [feature], allow=allow)
        """,
        *arguments,
    )
    assert lines == ["test_it.py::test_shared: CKPT203 matched nothing (kernels)"]


@EVERYWHERE
def test_markers_add_up_and_are_used_where_any_test_uses_them(run, arguments):
    result, lines = run(
        """
        pytestmark = pytest.mark.ckptload(allow={"CKPT402": "of the module"})

        @pytest.mark.ckptload(allow={"CKPT401": "of the class", "CKPT203": "of the class"})
        class TestIt:
            def test_used(self, ckptload):
                quick(ckptload, mmap_meta_assign, allow={"CKPT204": "of the check"})

            @pytest.mark.ckptload(allow={"CKPT101": "of the test"})
            def test_unused(self, ckptload):
                quick(ckptload, mmap)
        """,
        *arguments,
    )
    result.assert_outcomes(passed=2)
    assert sorted(lines) == [
        "test_it.py: CKPT402 matched nothing (of the module)",
        "test_it.py::TestIt: CKPT203 matched nothing (of the class)",
        "test_it.py::TestIt::test_unused: CKPT101 matched nothing (of the test)",
        "test_it.py::TestIt::test_used: CKPT204 matched nothing (of the check)",
    ]


INI = """
    ckptload_allow =
        CKPT401: tied again: our manual says so
        CKPT203 *.conv.*: kernels
"""


def test_the_ini_key_holds_for_all_checks(run):
    result, lines = run(
        """
        def test_used(ckptload):
            quick(ckptload, mmap_meta_assign, allow={})

        def test_unused(ckptload):
            quick(ckptload, mmap)
        """,
        ini=INI,
    )
    result.assert_outcomes(passed=2)
    assert lines == ["ckptload_allow: CKPT203 *.conv.* matched nothing (kernels)"]


def test_the_option_goes_before_the_ini_key(run):
    result, lines = run(
        """
        def test_it(ckptload):
            report = quick(ckptload, mmap_meta_assign)
            assert report.allowed == {"CKPT401": "for now"}
            assert report.unused == {}
        """,
        "--ckptload-allow=CKPT401: for now",
        "--ckptload-allow=CKPT203: kernels",
        ini=INI,
    )
    result.assert_outcomes(passed=1)
    assert lines == ["ckptload_allow: CKPT203 matched nothing (kernels)"]


def test_it_holds_for_loaders_in_the_suite(run, pytester):
    pytester.makeconftest(
        """
        from pytest_ckptload.recipes import mmap_meta_assign

        def pytest_ckptload_loaders(config):
            return {"ours": mmap_meta_assign}
        """
    )
    options = ("ckptload::ours::tied", "--ckptload-max-examples=2")
    result, lines = run("", *options, ini=INI)
    result.assert_outcomes(passed=1)
    assert lines == ["ckptload_allow: CKPT203 *.conv.* matched nothing (kernels)"]


def test_what_torch_is_known_for_does_not_use_it(run):
    _, lines = run("", "ckptload::mmap_meta_assign::tied", "--ckptload-max-examples=1", ini=INI)
    assert len(lines) == 2


def test_a_check_that_failed_or_replayed_one_case_tells_nothing(run):
    test = """
        def test_it(ckptload):
            quick(ckptload, LOADER, allow={"CKPT203": "kernels"})
    """
    result, lines = run(test.replace("LOADER", "mmap_meta_assign"), ini=INI.replace("401", "402"))
    result.assert_outcomes(failed=1)
    assert not lines
    replay = '--ckptload-replay={"module": {"factory": "Scalar"}}'
    result, lines = run(test.replace("LOADER", "mmap"), replay, ".")
    result.assert_outcomes(passed=1)
    assert not lines


def test_drawn_cases_are_judged_with_the_same_leave(run):
    result, lines = run(
        """
        from hypothesis import settings
        from pytest_ckptload import CheckpointMismatch

        def changed(case, device):
            module = eager(case.build, case.path, device)
            return module.double()

        @settings(max_examples=3)
        @pytest.mark.ckptload(
            features=["frozen"], allow={"CKPT201": "we compute in double", "CKPT101": "not met"}
        )
        def test_allowed(ckptload, ckptload_case, ckptload_device):
            ckptload.assert_matches_eager(changed(ckptload_case, ckptload_device), ckptload_case)
        """
    )
    result.assert_outcomes(passed=1)
    assert lines == ["test_it.py::test_allowed: CKPT101 matched nothing (not met)"]


def test_a_resumer_is_given_the_same_leave(run):
    result, _ = run(
        """
        import torch
        from pytest_ckptload.recipes import eager_resume

        def resume(build, make_optimizer, path, device):
            module, optimizer = eager_resume(build, make_optimizer, path, device)
            for parameter in module.parameters():
                parameter.requires_grad_(False)
            return module, optimizer

        def test_it(ckptload):
            report = ckptload.check_resume(
                resume, build=lambda: nn.Linear(1, 1), features=[], max_examples=0,
                make_optimizer=lambda module: torch.optim.SGD(module.parameters(), lr=0.1),
                allow={"CKPT206": "we thaw later", "CKPT508": "and then it steps"},
            )
            assert "CKPT206" in report.allowed
        """
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("CKPT203", "--ckptload-allow=CKPT203: expected the code of a rule and a reason, as in *"),
        ("CKPT203:", "--ckptload-allow=CKPT203:: expected the code of a rule and a reason*"),
        (": why", "--ckptload-allow=: why: expected the code of a rule and a reason*"),
        ("CKPT999: why", "there is no rule 'CKPT999'; the nearest are: CKPT*"),
    ],
)
def test_a_bad_line_is_one_sentence(pytester, line, message):
    result = pytester.runpytest_inprocess(
        "-p", "no:benchmark", "--ckptload", f"--ckptload-allow={line}"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


@pytest.mark.parametrize("allow", ["{'CKPT401': ''}", "['CKPT401']"])
def test_a_bad_marker_is_an_error_before_the_test(run, allow):
    result, _ = run(
        f"""
        @pytest.mark.ckptload(allow={allow})
        def test_it():
            pass
        """
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*@pytest.mark.ckptload: allow=*"])
