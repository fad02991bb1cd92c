"""What the plugin costs those who do not use it, its options, its marker, its summary."""

from __future__ import annotations

import sys

import pytest

USES_NOTHING = """
    import sys

    def test_own():
        assert not {"torch", "hypothesis", "numpy"} & set(sys.modules), "imported for nothing"
"""


@pytest.fixture
def run(pytester):
    def run(*arguments):
        return pytester.runpytest_inprocess("-p", "no:benchmark", *arguments)

    return run


def test_a_suite_that_does_not_use_it_imports_neither_torch_nor_hypothesis(pytester, monkeypatch):
    pytester.makepyfile(USES_NOTHING)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess("-p", "ckptload")
    result.assert_outcomes(passed=1)
    assert "ckptload" not in result.stdout.str().split("plugins:")[-1].split("\n", 1)[1]


def test_the_name_of_the_entry_point_is_enough(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess("-p", "ckptload", "--ckptload", "ckptload::mmap::scalar")
    result.assert_outcomes(passed=1)
    assert result.stderr.str() == ""


def test_importing_the_package_imports_no_torch():
    import subprocess

    code = "import pytest_ckptload, sys; assert 'torch' not in sys.modules; pytest_ckptload.Finding"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--ckptload", "--ckptload-features=tide"],
            "there is no feature 'tide'; there are: ",
        ),
        (
            ["--ckptload", "--ckptload-without=tide"],
            "there is no feature 'tide'; there are: ",
        ),
        (
            ["--ckptload-features=tied", "--ckptload-without=tied"],
            "--ckptload-features and --ckptload-without both name tied",
        ),
        (["--ckptload", "--ckptload-devices=gpu"], "there is no device 'gpu' here; there are: cpu"),
        (["--ckptload-loader=mmapp"], "there is no recipe 'mmapp'; there are: eager, mmap, "),
        (["--ckptload-loader=a.b.c"], "--ckptload-loader=a.b.c: expected `package.module:name`"),
        (["--ckptload-loader=no.such:fn"], "--ckptload-loader=no.such:fn: cannot import 'no.such'"),
        (["--ckptload-loader=json:nothing"], "json has no 'nothing'; it has: "),
        (["--ckptload-loader=sys:path"], "--ckptload-loader=sys:path is a list, which cannot be"),
        (["--ckptload-loader=json:dumps"], "dumps(obj, *, "),
        (["--ckptload-model=nothing"], "--ckptload-model=nothing: expected `package.module:name`"),
        (["--ckptload-checkpoint=no.pt"], "--ckptload-checkpoint=no.pt: this path does not exist"),
        (["--ckptload-checkpoint=."], "--ckptload-checkpoint=.: this path is not a file"),
        (
            ["--ckptload-checkpoint=tox.ini", "--ckptload-replay={}"],
            "--ckptload-replay and --ckptload-checkpoint contradict each other",
        ),
        (["--ckptload-replay=no.json"], "neither a file nor the JSON text of a case"),
        (["--ckptload-replay={"], "--ckptload-replay: Expecting property name"),
        (["--ckptload-max-examples=many"], "--ckptload-max-examples=many: expected a whole number"),
        (["--ckptload-max-examples=0"], "--ckptload-max-examples=0: expected a whole number"),
        (["--ckptload-isolation=on"], "=on: expected one of auto, worker, off"),
        (["--ckptload-timeout=0"], "--ckptload-timeout=0: expected seconds, more than 0 and at "),
        (["--ckptload-timeout=-1"], "--ckptload-timeout=-1: expected seconds"),
        (["--ckptload-timeout=nan"], "--ckptload-timeout=nan: expected seconds"),
        (["--ckptload-timeout=1e99"], "--ckptload-timeout=1e99: expected seconds"),
        (["--ckptload-timeout=soon"], "--ckptload-timeout=soon: expected seconds"),
        (["--ckptload-memory=0"], "--ckptload-memory=0: expected a size above 0"),
        (["--ckptload-memory=-1GB"], "--ckptload-memory=-1GB: expected a size above 0"),
        (["--ckptload-memory=2XB"], "--ckptload-memory=2XB: expected a size above 0, in bytes or"),
        (["--ckptload-seed=-1"], "--ckptload-seed=-1: expected a whole number of at least 0"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_bad_option_is_one_sentence(run, pytester, arguments, message):
    pytester.makeini("[pytest]")
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()
    assert len(result.errlines) <= 3
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_an_option_falls_back_to_the_ini_key_of_its_name(run, pytester):
    pytester.makeini(
        """
        [pytest]
        ckptload_features = tied
        ckptload_max_examples = 1
        ckptload_loader = mmap
        """
    )
    result = run("-v")
    result.stdout.fnmatch_lines(["ckptload::mmap::tied?cpu? PASSED*", "*2 passed*"])
    result = run("-v", "--ckptload-features=scalar")
    result.stdout.fnmatch_lines(["ckptload::mmap::scalar?cpu? PASSED*", "*2 passed*"])


def test_the_marker_says_what_a_check_does(run, pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_ckptload.recipes import mmap

        @pytest.mark.ckptload(features=["tied"], max_examples=1)
        def test_marked(ckptload):
            assert set(ckptload.check(mmap).features) == {"tied"}
            assert set(ckptload.check(mmap, features=["scalar"]).features) == {"scalar"}
        """
    )
    run().assert_outcomes(passed=1)


def test_a_marker_with_other_arguments_is_an_error(run, pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.ckptload(feature="tied")
        def test_marked(ckptload):
            pass

        def test_other():
            pass
        """
    )
    result = run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ckptload takes features, without, *, not feature*"])


ADVICE = """
    from pytest_ckptload.recipes import eager

    def load_eval(build, path, device):
        return eager(build, path, device).eval()

    def test_it(ckptload):
        ckptload.check(load_eval, features=["scalar"], max_examples=1)
"""


@pytest.mark.parametrize("arguments", [(), ("-n1",), ("-p", "no:xdist")])
def test_advice_is_shown_and_does_not_fail(run, pytester, arguments):
    pytester.makepyfile(ADVICE)
    result = run(*arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*ckptload: advice*", "load_eval: CKPT307 mode-changed at *"])


def test_advice_fails_with_strict(run, pytester):
    pytester.makepyfile(ADVICE)
    result = run("--ckptload-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*CKPT307 mode-changed*(advice)"])


def test_the_traceback_of_a_failure_is_the_users_own(run, pytester):
    pytester.makepyfile(
        """
        def load(build, path, device):
            return None

        def test_it(ckptload):
            ckptload.check(load)

        def test_name(ckptload):
            ckptload.check(load, features=["tide"])
        """
    )
    result = run()
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert "checks.py" not in text
    assert "inputs.py" not in text
    assert "fixtures.py" not in text
    result.stdout.fnmatch_lines(
        [
            ">       ckptload.check(load)",
            "E   *CheckpointMismatch: load does not give the module that eager loading gives *",
            "E   *CKPT807 no-module",
            "*Replay it with:",
            "*pytest *_is_the_users_own.py::test_it *--ckptload-replay=*",
            ">       ckptload.check(load, features=*tide*",
            "E       ValueError: there is no feature 'tide'; there are: *",
        ]
    )


def test_a_case_replays_in_the_test_it_comes_from(run, pytester):
    pytester.makepyfile(
        """
        from pytest_ckptload.recipes import mmap

        def test_it(ckptload):
            assert ckptload.check(mmap).examples == 1
        """
    )
    run('--ckptload-replay={"module": {"factory": "Scalar"}}', ".").assert_outcomes(passed=1)


def test_checks_work_inside_a_given_test_and_in_classes(run, pytester):
    pytester.makepyfile(
        """
        import pytest
        from hypothesis import given, settings, strategies as st
        from pytest_ckptload.recipes import mmap, mmap_meta_assign
        from pytest_ckptload import CheckpointMismatch

        class TestIt:
            @settings(max_examples=3, deadline=None)
            @given(size=st.integers(1, 3))
            def test_given(self, ckptload, size):
                import torch
                build = lambda: torch.nn.Linear(size, size)
                assert ckptload.check(mmap, build=build, max_examples=5).examples > 5

            @pytest.mark.parametrize("feature", ["tied", "scalar"])
            def test_parametrized(self, ckptload, ckptload_device, feature):
                ckptload.check(mmap, features=[feature], devices=[ckptload_device], max_examples=3)

        @settings(max_examples=2, deadline=None)
        @given(st.booleans())
        def test_given_fails(ckptload, flag):
            with pytest.raises(CheckpointMismatch) as caught:
                ckptload.check(mmap_meta_assign, features=["tied"])
            assert caught.value.findings[0].code == "CKPT401"
        """
    )
    result = run("-v")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*test_parametrized?cpu-tied? PASSED*"])


def test_checks_of_one_test_draw_cases_of_their_own(monkeypatch):
    """With CI's fixed seed, two checks would see the same cases if they shared a key."""
    from pytest_ckptload.finding import Verdict
    from pytest_ckptload.search import Budget, search
    from pytest_ckptload.strategies import random_cases

    def seen(key):
        drawn = []
        with _derandomized():
            search(
                lambda case: drawn.append(case) or Verdict(),
                [],
                random_cases(),
                Budget(30, key=key),
            )
        return drawn

    assert seen("a") == seen("a")
    assert seen("a") != seen("b")


class _derandomized:
    """Hypothesis as it is where CI is set."""

    def __enter__(self):
        from hypothesis import settings

        settings.register_profile("ckptload-test", derandomize=True, database=None)
        self.before = settings.get_current_profile_name()
        settings.load_profile("ckptload-test")

    def __exit__(self, *details):
        from hypothesis import settings

        settings.load_profile(self.before)


def test_global_state_is_as_before_after_a_check(run, pytester):
    pytester.makepyfile(
        """
        import torch
        from pytest_ckptload.recipes import eager
        from pytest_ckptload.machine.torch_state import snapshot

        def leaks(build, path, device):
            torch.set_default_dtype(torch.float64)
            torch.__future__.set_swap_module_params_on_conversion(True)
            torch.use_deterministic_algorithms(True)
            torch.set_grad_enabled(False)
            torch.manual_seed(5)
            torch.set_default_device("meta")
            return eager(build, path, torch.device("cpu"))

        def test_it(ckptload):
            before, random = snapshot(), torch.get_rng_state()
            try:
                ckptload.check(leaks, max_examples=5)
            except AssertionError:
                pass
            assert snapshot() == before
            assert torch.get_default_device() == torch.device("cpu")
            assert torch.equal(torch.get_rng_state(), random)
        """
    )
    run().assert_outcomes(passed=1)
