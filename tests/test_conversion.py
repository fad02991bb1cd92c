"""Tests that ask for `ckptload_case` and its like become Hypothesis tests, and no others do."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import hypothesis.core
import pytest
import torch
from hypothesis import settings
from hypothesis.database import InMemoryExampleDatabase

from pytest_ckptload.case import Case, CheckpointSpec, ModuleSpec, TensorSpec
from pytest_ckptload.examine.written import WrittenCase
from pytest_ckptload.machine import devices
from pytest_ckptload.zoo import FEATURES

HEAD = """
import pytest, torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pytest_ckptload import strategies
from seen import saw
"""
SEEN = """
import json
from pathlib import Path

def saw(*values):
    with Path(__file__).with_name("seen.jsonl").open("a") as file:
        print(json.dumps([str(value) for value in values]), file=file)
"""


@dataclasses.dataclass
class Ran:
    result: pytest.RunResult
    seen: list[list[str]]

    @property
    def text(self) -> str:
        return self.result.stdout.str()


@pytest.fixture
def profile():
    """What is drawn is the same every time, and kept nowhere; the deadline is Hypothesis' own."""
    before = settings.get_current_profile_name()
    settings.register_profile(
        "conversion", settings.get_profile("default"), derandomize=True, print_blob=False
    )
    settings.load_profile("conversion")
    yield
    settings.load_profile(before)


@pytest.fixture
def run(pytester, profile):
    """Runs a file of tests, and hands back the outcome and what its tests `saw`."""
    pytester.makepyfile(seen=SEEN)
    seen = pytester.path / "seen.jsonl"

    def run(source, *arguments, subprocess=False, **outcomes) -> Ran:
        seen.write_text("")
        if source is not None:
            file = pytester.makepyfile(test_it=source)
            file.write_text(HEAD + file.read_text())
        start = pytester.runpytest_subprocess if subprocess else pytester.runpytest_inprocess
        result = start("-p", "no:benchmark", "-p", "no:randomly", *arguments)
        result.assert_outcomes(**outcomes)
        return Ran(result, [json.loads(line) for line in seen.read_text().splitlines()])

    return run


# --- what the test gets ---


def test_a_written_case_is_its_case_made_real(tmp_path):
    case = Case(
        ModuleSpec("Linear", {"in_features": 2, "out_features": 1}),
        CheckpointSpec({"bias": TensorSpec(dtype="float64")}),
        features=("dtype-drift",),
    )
    written = WrittenCase.of(case, tmp_path)
    assert repr(written) == repr(case)
    assert written.case is case
    assert written.features == ("dtype-drift",)
    assert written.path.parent == tmp_path
    held = torch.load(written.path, weights_only=True)
    assert list(held) == list(written.state) == ["weight", "bias"]
    assert all(torch.equal(held[name], written.state[name]) for name in held)
    assert held["bias"].dtype == torch.float64
    first, second = written.build(), written.build()
    assert first is not second
    assert torch.equal(first.weight, second.weight)
    assert not torch.equal(first.weight, held["weight"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        written.path = tmp_path


def test_each_name_gives_what_it_says(run):
    ran = run(
        """
        from pathlib import Path
        from pytest_ckptload.examine.written import WrittenCase

        few = settings(max_examples=5)

        @few
        def test_case(ckptload_case):
            saw("case")
            assert type(ckptload_case) is WrittenCase
            assert set(torch.load(ckptload_case.path)) == set(ckptload_case.state)

        @few
        def test_module(ckptload_module):
            saw("module")
            assert isinstance(ckptload_module, torch.nn.Module)

        @few
        def test_checkpoint(ckptload_checkpoint):
            saw("checkpoint")
            assert isinstance(ckptload_checkpoint, Path)
            assert isinstance(torch.load(ckptload_checkpoint), dict)
        """,
        passed=3,
    )
    assert sorted(ran.seen) == [["case"]] * 5 + [["checkpoint"]] * 5 + [["module"]] * 5


def test_names_in_one_signature_belong_to_one_case(run):
    run(
        """
        def test_it(ckptload_checkpoint, ckptload_case, ckptload_module):
            assert ckptload_checkpoint == ckptload_case.path
            names = [name for name, _ in ckptload_module.named_parameters()]
            assert names == [name for name, _ in ckptload_case.build().named_parameters()]
            ckptload_module.load_state_dict(torch.load(ckptload_checkpoint))
        """,
        passed=1,
    )


def test_files_are_fresh_for_each_example_and_gone_after_it(run):
    ran = run(
        """
        before = []

        @settings(max_examples=10)
        def test_it(ckptload_checkpoint, ckptload_case):
            assert ckptload_checkpoint.is_file()
            assert not any(path.exists() for path in before), "left from another example"
            assert ckptload_checkpoint not in before
            before.append(ckptload_checkpoint)
            saw(ckptload_checkpoint)
            # A map of it keeps nobody from removing it.
            before.append(ckptload_case.path.with_name("map"))
            kept = torch.load(ckptload_checkpoint, mmap=True)
            ckptload_case.path.with_name("other").write_text("in the same folder")

        def test_fails(ckptload_checkpoint):
            saw(ckptload_checkpoint)
            assert 0
        """,
        passed=1,
        failed=1,
    )
    assert len(ran.seen) > 10
    assert not any(Path(path).parent.exists() for (path,) in ran.seen)


def test_torch_is_after_each_example_as_it_was_before(run):
    try:
        ran = run(
            """
            @settings(max_examples=5)
            def test_it(ckptload_module):
                assert torch.get_default_dtype() == torch.float32
                assert torch.zeros(1).device.type == "cpu"
                saw(torch.rand(1).item())
                torch.set_default_dtype(torch.float64)
                torch.set_default_device("meta")
                torch.manual_seed(7)

            def test_after():
                assert torch.get_default_dtype() == torch.float32
                assert torch.zeros(1).device.type == "cpu"
                assert torch.initial_seed() != 7
            """,
            passed=2,
        )
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert len(ran.seen) == 5
    assert len(set(map(tuple, ran.seen))) == 1


def test_what_a_test_draws_itself_is_the_same_in_every_run_and_not_what_the_module_drew(run):
    source = """
        @settings(max_examples=1)
        def test_it(ckptload_case):
            saw(torch.rand(1).item())
            torch.manual_seed(ckptload_case.case.seed)
            saw(torch.rand(1).item())
        """
    state = torch.get_rng_state()
    first = run(source, passed=1).seen
    torch.rand(3)
    second = run(None, passed=1).seen
    torch.set_rng_state(state)
    assert first == second
    assert first[0] != first[1]


REFUSED = [name for name, feature in FEATURES.items() if not feature.loadable]


def test_only_loadable_cases_are_drawn(run):
    ran = run(
        f"""
        from pytest_ckptload.recipes import eager

        refused = {REFUSED!r}

        def check(case):
            saw(*case.features)
            assert not set(refused) & set(case.features)
            eager(case.build, case.path, torch.device("cpu"))

        @settings(max_examples=200)
        def test_it(ckptload_case):
            check(ckptload_case)

        @pytest.mark.ckptload(features=["tied", *refused])
        def test_asked_for(ckptload_case):
            check(ckptload_case)
        """,
        passed=2,
    )
    assert len({name for names in ran.seen for name in names}) > 8


# --- features, budget, seed ---

FEATURES = """
    @pytest.mark.ckptload(features=["tied", "views"])
    def test_marked(ckptload_case):
        saw("marked", *ckptload_case.features)

    def test_plain(ckptload_case):
        saw("plain", *ckptload_case.features)
    """


def features_seen(ran, test):
    return {name for first, *names in ran.seen for name in names if first == test}


@pytest.mark.parametrize(
    ("arguments", "marked", "plain"),
    [
        ((), {"tied", "views"}, None),
        (("--ckptload-without=tied",), {"views"}, None),
        (("--ckptload-features=scalar,frozen",), {"scalar", "frozen"}, {"scalar", "frozen"}),
    ],
)
def test_marker_and_command_line_say_which_features(run, arguments, marked, plain):
    ran = run(FEATURES, *arguments, passed=2)
    assert features_seen(ran, "marked") == marked
    everything = features_seen(ran, "plain")
    assert everything == plain if plain else len(everything) > 8
    assert "tied" not in everything or "tied" not in str(arguments)


def test_modules_have_features_of_modules_alone(run):
    ran = run(
        """
        @pytest.mark.ckptload(features=["tied", "views", "dtype-drift"])
        def test_it(ckptload_module):
            saw(len({id(p) for p in ckptload_module.parameters()})
                < len(list(ckptload_module.named_parameters(remove_duplicate=False))))

        @pytest.mark.ckptload(features=["views"])
        def test_fails(ckptload_module):
            assert 0
        """,
        passed=1,
        failed=1,
    )
    assert ["True"] in ran.seen
    assert "views" not in ran.text.split("ckptload_module=Case(")[1]


def test_a_feature_that_is_none_is_one_clear_error(run):
    ran = run(
        """
        @pytest.mark.ckptload(features=["tide"])
        def test_it(ckptload_case):
            pass

        def test_other(ckptload_module):
            pass
        """,
        passed=1,
        errors=1,
    )
    ran.result.stdout.fnmatch_lines(
        ["*ERROR at setup of test_it*", "features: there is no 'tide'; *"]
    )
    assert "Traceback" not in ran.text
    assert "conversion.py" not in ran.text


BUDGET = """
    @settings(max_examples=7)
    def test_own(ckptload_case):
        saw("own")

    @pytest.mark.ckptload(max_examples=3)
    def test_marked(ckptload_case):
        saw("marked")

    @pytest.mark.ckptload(max_examples=3)
    @settings(max_examples=7)
    def test_both(ckptload_case):
        saw("both")

    @pytest.mark.ckptload(max_examples=0)
    def test_none(ckptload_case):
        saw("none")

    @settings(phases=[Phase.generate])
    def test_plain(ckptload_case):
        saw("plain")

    @pytest.mark.parametrize("a", [pytest.param(1, marks=pytest.mark.ckptload(max_examples=4)), 3])
    @settings(phases=[Phase.generate])
    def test_parameter(a, ckptload_case):
        saw("parameter", a)
    """


def test_the_number_of_examples(run):
    def counts(*arguments):
        seen = run(BUDGET if not arguments else None, *arguments, passed=7).seen
        return {" ".join(name): seen.count(name) for name in seen}

    assert counts() == {
        "own": 7,
        "marked": 3,
        "both": 7,
        "none": 1,
        "plain": 100,
        "parameter 1": 4,
        "parameter 3": 100,
    }
    assert counts("--ckptload-max-examples=2") == {
        "own": 7,
        "marked": 2,
        "both": 7,
        "none": 2,
        "plain": 2,
        "parameter 1": 2,
        "parameter 3": 2,
    }


def test_a_marker_that_is_added_late_counts(run, pytester):
    pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.ckptload(max_examples=2))
        """
    )
    ran = run("def test_it(ckptload_case):\n    saw(1)", passed=1)
    assert len(ran.seen) == 2


def test_there_is_no_deadline_unless_the_test_has_one(run):
    ran = run(
        """
        import time

        @settings(max_examples=1)
        def test_slow(ckptload_module):
            time.sleep(0.3)

        @settings(max_examples=1, deadline=20)
        def test_own(ckptload_module):
            time.sleep(0.06)
        """,
        passed=1,
        failed=1,
    )
    ran.result.stdout.fnmatch_lines(["*DeadlineExceeded*", "FAILED test_it.py::test_own*"])


SEEDED = """
    @settings(max_examples=20, derandomize=False, database=None)
    def test_it(ckptload_case):
        saw(ckptload_case)
    """


@pytest.mark.parametrize("option", ["--ckptload-seed", "--hypothesis-seed"])
def test_a_seed_says_what_is_drawn(run, monkeypatch, option):
    # Hypothesis keeps it for the rest of the process.
    monkeypatch.setattr(hypothesis.core, "global_force_seed", None)
    first = run(SEEDED, f"{option}=1", passed=1).seen
    assert len(first) == 20
    assert run(None, f"{option}=1", passed=1).seen == first
    assert run(None, f"{option}=2", passed=1).seen != first


def test_without_a_seed_each_run_draws_anew(run):
    assert run(SEEDED, passed=1).seen != run(None, passed=1).seen


def test_in_ci_each_node_draws_cases_of_its_own_and_the_same_in_every_run(run):
    source = """
        class Base:
            @settings(max_examples=10)
            def test_it(self, ckptload_case):
                saw(type(self).__name__, ckptload_case)

        class TestOne(Base):
            pass

        class TestTwo(Base):
            pass

        @pytest.mark.parametrize("a", [3, 4])
        @settings(max_examples=10)
        def test_it(a, ckptload_case):
            saw(a, ckptload_case)
        """
    ran = run(source, passed=4)
    drawn = [
        [case for node, case in ran.seen if node == name]
        for name in ("TestOne", "TestTwo", "3", "4")
    ]
    assert all(len(cases) == 10 for cases in drawn)
    assert all(cases not in drawn[:i] for i, cases in enumerate(drawn))
    assert run(None, "-p", "no:cacheprovider", passed=4).seen == ran.seen


def test_a_failing_example_is_kept_for_its_node_alone(run):
    settings.register_profile(
        "kept", settings.get_profile("default"), database=InMemoryExampleDatabase()
    )
    settings.load_profile("kept")
    source = """
        class Base:
            @settings(max_examples=30)
            def test_it(self, ckptload_case):
                saw(type(self).__name__, *ckptload_case.features)
                assert "tied" not in ckptload_case.features or type(self) is TestTwo

        class TestOne(Base):
            pass

        class TestTwo(Base):
            pass
        """
    run(source, "--ckptload-features=tied", failed=1, passed=1)
    again = run(None, "--ckptload-features=tied", failed=1, passed=1).seen
    firsts = {node: features for node, *features in reversed(again)}
    assert firsts["TestOne"] == ["tied"]
    assert firsts["TestTwo"] == []


def test_no_shrink_reports_what_was_found_first(run):
    source = """
        def test_it(ckptload_case):
            if any(t.ndim > 1 for t in ckptload_case.state.values()):
                saw("failed")
                assert 0
        """
    assert len(run(source, failed=1).seen) > 3
    # Once when it is found, and once more to report it.
    assert len(run(None, "--ckptload-no-shrink", failed=1).seen) <= 3


# --- replay ---

CASE = Case(ModuleSpec("Linear", {"in_features": 3, "out_features": 1, "bias": False}))


def test_a_replay_runs_that_one_case(run, pytester):
    pytester.path.joinpath("case.json").write_text(CASE.to_json())
    source = """
        @settings(max_examples=50)
        @example(ckptload_case=None)
        def test_case(ckptload_case):
            saw(ckptload_case.case.to_json(), list(ckptload_case.state))

        def test_module(ckptload_module):
            saw(ckptload_module)

        def test_checkpoint(ckptload_checkpoint):
            saw({name: tuple(t.shape) for name, t in torch.load(ckptload_checkpoint).items()})
        """
    seen = run(source, f"--ckptload-replay={CASE.to_json()}", "test_it.py", passed=3).seen
    assert seen == [
        [CASE.to_json(), "['weight']"],
        ["Linear(in_features=3, out_features=1, bias=False)"],
        ["{'weight': (1, 3)}"],
    ]
    assert (
        run(None, "--ckptload-replay=case.json", "--ckptload-seed=3", "test_it.py", passed=3).seen
        == seen
    )


def test_the_replay_of_a_case_without_a_module_is_one_clear_error(run):
    source = """
        def test_it(ckptload_case):
            pass

        def test_other():
            pass
        """
    ran = run(source, "--ckptload-replay={}", "test_it.py", passed=1, errors=1)
    assert "this case was made for a given build=" in ran.text
    ran = run(None, "--ckptload-replay={", "test_it.py", passed=1, errors=1)
    assert "--ckptload-replay: " in ran.text
    assert "conversion.py" not in ran.text


def test_an_example_of_the_users_own_is_run(run):
    ran = run(
        """
        from pytest_ckptload import Case
        from pytest_ckptload.case import ModuleSpec

        @example(ckptload_case=Case(module=ModuleSpec(factory='PReLU')))
        @settings(max_examples=1)
        def test_it(ckptload_case):
            saw(ckptload_case)
        """,
        passed=1,
    )
    assert ran.seen[0] == ["Case(module=ModuleSpec(factory='PReLU'))"]
    assert len(ran.seen) == 2


# --- a failure ---


def test_a_failure_shows_the_shrunk_case_the_users_traceback_and_how_to_replay(run):
    ran = run(
        """
        def test_it(ckptload_case):
            state = torch.load(ckptload_case.path)
            assert not any(t.ndim == 2 for t in state.values())
        """,
        failed=1,
    )
    ran.result.stdout.fnmatch_lines(
        [
            ">       assert not any(t.ndim == 2 for t in state.values())",
            "E       assert not True",
            "E       F* test case: test_it(",
            "E           ckptload_case=Case(module=ModuleSpec(*",
            "E       Replay it with:",
            "E         pytest test_it.py::test_it *--ckptload-replay={*",
            "test_it.py:*: AssertionError",
        ]
    )
    for file in ("conversion.py", "written.py", "core.py", "python.py", "contextlib.py"):
        assert file not in ran.text
    printed = next(line for line in ran.text.splitlines() if "ckptload_case=Case(" in line)
    names = {"Case": Case, "ModuleSpec": ModuleSpec}
    shown = eval(printed.split("ckptload_case=", 1)[1].rstrip(","), names)
    assert isinstance(shown, Case)
    assert shown.checkpoint == CheckpointSpec()
    assert "Explanation:" not in ran.text
    assert len(list(shown.module.factories())) == 1
    replay = f"--ckptload-replay={shown.to_json()}"
    assert replay in ran.text
    again = run(None, "test_it.py::test_it", replay, failed=1)
    assert "E           ckptload_case=Case(module=ModuleSpec(" in again.text


def test_a_failure_of_a_test_over_modules_shows_data_as_well(run):
    ran = run(
        "def test_it(ckptload_module):\n    assert not ckptload_module.state_dict()", failed=1
    )
    ran.result.stdout.fnmatch_lines(["E *ckptload_module=Case(module=ModuleSpec(factory='*"])


def test_all_names_in_a_failure_stand_for_one_case(run):
    ran = run(
        """
        def test_it(ckptload_module, ckptload_checkpoint):
            assert len(list(ckptload_module.parameters())) < 2
        """,
        failed=1,
    )
    module, checkpoint = (
        line.split(f"{name}=")[1]
        for name in ("ckptload_module", "ckptload_checkpoint")
        for line in ran.text.splitlines()
        if line.startswith("E ") and f"{name}=Case(" in line
    )
    assert module == checkpoint


def test_what_differs_from_eager_loading_is_told_in_its_own_words(run):
    ran = run(
        """
        from pytest_ckptload.recipes import mmap_meta_assign

        @pytest.mark.ckptload(features=["tied"])
        def test_it(ckptload, ckptload_case, ckptload_device):
            model = mmap_meta_assign(ckptload_case.build, ckptload_case.path, ckptload_device)
            ckptload.assert_matches_eager(model, ckptload_case)
        """,
        failed=1,
    )
    ran.result.stdout.fnmatch_lines(
        [
            "*CKPT401 tie-lost*",
            "*ckptload_case=Case(*",
            "*'test_it.py::test_it?cpu?'*--ckptload-replay*",
        ]
    )


# --- where such tests may stand ---

PLACES = """
    pytestmark = pytest.mark.ckptload(max_examples=3)

    class TestClass:
        def helper(self):
            return type(self)

        def test_method(self, ckptload_case):
            saw("method", self.helper().__name__)

        @staticmethod
        def test_static(ckptload_case):
            saw("static")

        @classmethod
        def test_class(cls, ckptload_case):
            saw("class", cls.__name__)

    class TestSub(TestClass):
        def test_method(self, ckptload_case):
            saw("sub", type(ckptload_case).__name__)
            super().test_method(ckptload_case)

    class TestHeir(TestClass):
        pass

    @pytest.mark.parametrize("a", [1, 2])
    def test_parameter(a, ckptload_case):
        saw("parameter", a)

    @torch.no_grad()
    def test_decorated(ckptload_case):
        saw("decorated", torch.is_grad_enabled())

    def test_keyword_only(request, *, ckptload_case):
        saw("keyword", request.node.name)
    """


@pytest.mark.parametrize("arguments", [(), ("-p", "no:xdist")])
def test_functions_methods_and_what_is_inherited(run, arguments):
    seen = run(PLACES, *arguments, passed=13).seen
    names = [" ".join(name) for name in seen]
    assert {name: names.count(name) for name in names} == {
        "method TestClass": 3,
        "method TestHeir": 3,
        "sub WrittenCase": 3,
        "method TestSub": 3,
        "static": 9,
        "class TestClass": 3,
        "class TestSub": 3,
        "class TestHeir": 3,
        "parameter 1": 3,
        "parameter 2": 3,
        "decorated False": 3,
        "keyword test_keyword_only": 3,
    }


def test_ids_and_lines_are_those_of_the_functions(run):
    ran = run(PLACES, "--collect-only", "-q", "-k", "parameter or (TestHeir and static)")
    assert ran.result.outlines[:3] == [
        "test_it.py::TestHeir::test_static",
        "test_it.py::test_parameter[1]",
        "test_it.py::test_parameter[2]",
    ]
    ran = run("@pytest.mark.skip\ndef test_it(ckptload_case):\n    pass", "-rs", skipped=1)
    ran.result.stdout.fnmatch_lines([f"SKIPPED ?1? test_it.py:{HEAD.count(chr(10)) + 1}: *"])


def test_they_are_marked_as_hypothesis_tests(run):
    ran = run(PLACES, "-m", "not hypothesis", deselected=13)
    assert ran.result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "Stopped because" in run(None, "--hypothesis-show-statistics", passed=13).text


def test_devices_and_wider_fixtures_stand_beside_the_case(run, monkeypatch):
    both = [torch.device("cpu"), torch.device("meta")]
    monkeypatch.setattr(devices, "available", lambda: both)
    ran = run(
        """
        @pytest.fixture(scope="session")
        def once():
            saw("session")
            return 1

        @pytest.fixture(scope="module", params=["x", "y"])
        def letter(request):
            saw("module", request.param)
            return request.param

        @pytest.fixture(scope="class")
        def klass():
            return 3

        @pytest.fixture(autouse=True)
        def around():
            saw("around")

        @settings(max_examples=2)
        def test_it(once, ckptload, letter, ckptload_device, ckptload_case, klass, tmpdir_factory):
            saw(once, letter, ckptload_device, klass)
            assert isinstance(ckptload_device, torch.device)
        """,
        "-v",
        passed=4,
    )
    for device in both:
        for letter in "xy":
            assert ran.seen.count(["1", letter, str(device), "3"]) == 2
            assert f"[{letter}-{device}]" in ran.text or f"[{device}-{letter}]" in ran.text
    assert ran.seen.count(["session"]) == 1
    assert ran.seen.count(["around"]) == 4


def test_unittest_classes_are_left_alone(run):
    ran = run(
        """
        import unittest

        class TestOld(unittest.TestCase):
            def test_asks(self, ckptload_case):
                pass

            def test_other(self):
                pass
        """,
        passed=1,
        failed=1,
    )
    assert "missing 1 required positional argument: 'ckptload_case'" in ran.text


def test_a_fixture_or_parameter_of_the_users_own_by_that_name_is_left_alone(run):
    ran = run(
        """
        @pytest.fixture
        def ckptload_module():
            return "own"

        def test_fixture(ckptload_module):
            saw(ckptload_module)

        def test_mixed(ckptload_module, ckptload_device):
            saw(ckptload_module)

        @pytest.mark.parametrize("ckptload_case", [1, 2])
        def test_parameter(ckptload_case):
            saw(ckptload_case)

        def test_default(ckptload_case=3):
            saw(ckptload_case)

        @given(ckptload_case=strategies.cases())
        @settings(max_examples=1)
        def test_given(ckptload_case):
            saw(type(ckptload_case).__name__)
        """,
        passed=6,
    )
    assert ran.seen == [["own"], ["own"], ["1"], ["2"], ["3"], ["Case"]]


# --- what cannot be: one clear error, for that test alone ---


@pytest.mark.parametrize("name", ["ckptload_case", "ckptload_module", "ckptload_checkpoint"])
@pytest.mark.parametrize(
    ("refused", "why"),
    [
        ("@given(x=st.integers())\ndef test_it(x, {name}): pass", "without @given"),
        ("def test_it({name}, tmp_path): pass", "tmp_path is function-scoped"),
        ("def test_it(mine, {name}): pass", "mine is function-scoped"),
        (
            "@pytest.mark.parametrize('mine', [1], indirect=True)\ndef test_it(mine, {name}): pass",
            "mine is function-scoped",
        ),
        ("def test_it(asks): pass", "only be asked for in a test's own signature"),
        ("@pytest.mark.usefixtures('{name}')\ndef test_it(): pass", "in a test's own signature"),
    ],
    ids=["given", "tmp_path", "fixture", "indirect", "from fixture", "usefixtures"],
)
def test_the_error_names_the_strategy(run, name, refused, why):
    strategy = "modules()" if name == "ckptload_module" else "c*s()"
    ran = run(
        f"""
@pytest.fixture
def mine(request): pass

@pytest.fixture
def asks({name}): pass

{refused.format(name=name)}

@settings(max_examples=1)
def test_other({name}): pass
""",
        passed=1,
        errors=1,
    )
    ran.result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_it*",
            f"{name} *{why}*pytest_ckptload.strategies.{strategy}*",
            "*short test summary info*",
        ]
    )
    text = ran.text.lower()
    assert "health" not in text
    assert "traceback" not in text
    assert ".py:" not in text.replace("test_it.py::", "")


def test_asking_for_it_by_name_is_an_error(run):
    ran = run(
        """
        def test_it(request):
            request.getfixturevalue("ckptload_case")
        """,
        failed=1,
    )
    assert "use pytest_ckptload.strategies.cases() with @given" in " ".join(ran.text.split())


def test_who_suppresses_the_health_check_may_have_function_scoped_fixtures(run):
    ran = run(
        """
        @settings(max_examples=1, suppress_health_check=[HealthCheck.function_scoped_fixture])
        def test_it(ckptload_case, tmp_path):
            assert tmp_path.is_dir() and ckptload_case.path.is_file()
        """,
        passed=1,
    )
    assert "health check" not in ran.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "async def test_it(ckptload_case): pass",
            "ckptload_case is for tests that are plain functions, and this one is async",
        ),
        (
            "def test_it(ckptload_module, a=1): pass",
            "this a Hypothesis test, whose parameters have no defaults: a has one",
        ),
    ],
    ids=["async", "default"],
)
def test_what_hypothesis_cannot_run_is_told_so(run, source, message):
    assert message in run(source, errors=1).text


# --- other plugins ---


def test_last_failed_runs_what_failed(run):
    source = """
        @pytest.mark.parametrize("a", [1, 2])
        @settings(max_examples=2)
        def test_it(a, ckptload_case):
            assert a == 1
        """
    run(source, passed=1, failed=1)
    ran = run(None, "--lf", "-v", failed=1)
    ran.result.stdout.fnmatch_lines(["test_it.py::test_it?2? FAILED*"])


def test_with_xdist(run):
    pytest.importorskip("xdist")
    seen = run(PLACES, "-n2", passed=13).seen
    assert len(seen) == 42


def test_in_any_order_and_reseeded_as_pytest_randomly_does(run, pytester):
    pytester.makeconftest(
        """
        import random
        import pytest

        def pytest_collection_modifyitems(items):
            random.Random(3).shuffle(items)

        def pytest_runtest_setup(item):
            random.seed(1)

        def pytest_runtest_call(item):
            random.seed(1)
        """
    )
    assert len(run(PLACES, passed=13).seen) == 42


def test_nothing_is_imported_where_no_test_asks_for_a_case(run, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    source = """
        def test_own(ckptload):
            import sys
            late = {"torch", "hypothesis", "pytest_ckptload.session.conversion"}
            assert not late & set(sys.modules)
        """
    monkeypatch.setattr(sys.modules[__name__], "HEAD", "")
    run(source, "-p", "ckptload", subprocess=True, passed=1)
