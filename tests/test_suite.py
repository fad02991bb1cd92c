"""`pytest --ckptload`: tests that nobody wrote a file for."""

from __future__ import annotations

import importlib.metadata
import platform
import re

import pytest
import torch

from pytest_ckptload.case import Case, CheckpointSpec, ModuleSpec, OptimizerSpec, TensorSpec
from pytest_ckptload.examine.pipeline import examine
from pytest_ckptload.examine.reference import Demands
from pytest_ckptload.examine.resuming import examine_resume
from pytest_ckptload.recipes import RECIPES, RESUMERS, mmap_meta_assign
from pytest_ckptload.suite.divergences import DIVERGENCES, Divergence, divergences_of
from pytest_ckptload.suite.plan import groups, resume_groups, subjects
from pytest_ckptload.zoo import FEATURES

# One recipe and few features: the whole suite is run by CI, by the README's own command.
FEW = ("--ckptload", "--ckptload-features=tied,scalar", "--ckptload-max-examples=2")


@pytest.fixture
def run(pytester):
    def run(*arguments, **kwargs):
        return pytester.runpytest_inprocess("-p", "no:benchmark", *arguments, **kwargs)

    return run


def ids(result):
    return [line for line in result.outlines if line.startswith("ckptload::")]


def test_ids_are_tidy_and_carry_the_device(run):
    result = run("--ckptload", "--collect-only", "-q")
    assert result.ret == 0
    found = ids(result)
    assert "ckptload::mmap_meta_assign::tied[cpu]" in found
    assert all(re.fullmatch(r"ckptload::\w+::[\w-]+\[\w+(:\d+)?\]", line) for line in found)
    assert len(set(found)) == len(found)
    names = ["plain", *(f.name for f in FEATURES.values() if f.of != "optimizer"), "mixed"]
    assert found == [
        *(f"ckptload::{recipe}::{group}[cpu]" for recipe in RECIPES for group in names),
        *(
            f"ckptload::{resumer}::{group.name}[cpu]"
            for resumer in RESUMERS
            for group in resume_groups({})
        ),
    ]


def test_in_an_empty_folder_it_runs_alone_and_is_green(run):
    result = run(*FEW, "-rx")
    result.assert_outcomes(passed=15, xfailed=3)
    result.stdout.fnmatch_lines(
        [
            "ckptload: torch *, 6 loaders, 0 models, 1 device (cpu), isolation worker",
            "XFAIL ckptload::mmap_meta_assign::tied?cpu? - CKPT401: *pytorch/pytorch#188346*",
        ]
    )


def test_with_paths_it_is_added_to_them(run, pytester):
    pytester.makepyfile("def test_own(): pass")
    run(*FEW, "-k", "own or scalar").assert_outcomes(passed=6, deselected=12)
    run(*FEW, "-k", "own or scalar", ".").assert_outcomes(passed=7, deselected=12)


def test_without_the_option_nothing_joins(run, pytester):
    pytester.makepyfile("def test_own(): pass")
    result = run()
    result.assert_outcomes(passed=1)
    assert "ckptload:" not in result.stdout.str()


@pytest.mark.parametrize(
    ("argument", "count"),
    [
        ("ckptload::mmap::scalar[cpu]", 1),
        ("ckptload::mmap::scalar", 1),
        ("ckptload::mmap", 3),
        ("ckptload", 18),
    ],
)
def test_an_id_works_as_an_argument(run, argument, count):
    result = run(*FEW, argument)
    outcomes = result.parseoutcomes()
    assert outcomes.get("passed", 0) + outcomes.get("xfailed", 0) == count


def test_an_id_is_enough(run):
    result = run("ckptload::mmap::scalar[cpu]", "--ckptload-max-examples=2")
    result.assert_outcomes(passed=1)


def test_an_id_that_is_none_is_an_error(run):
    result = run("ckptload::mmap::skalar[cpu]")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*there is no test ckptload::mmap::skalar?cpu?;*"])


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("-n2",), ("-p", "no:xdist"), ("-p", "no:cacheprovider")])
def test_with_and_without_other_plugins(run, arguments):
    result = run(*FEW, *arguments)
    result.assert_outcomes(passed=15, xfailed=3)


def test_an_id_works_under_xdist(run):
    result = run(*FEW, "ckptload::mmap::scalar[cpu]", "-n1")
    result.assert_outcomes(passed=1)


BROKEN = """
    import torch
    from pytest_ckptload.recipes import eager, mmap

    def broken(build, path, device):
        module = eager(build, path, device)
        for name, parameter in module.named_parameters():
            if name.endswith("scale"):
                parameter.data = parameter.data + 1
        return module

    def tiny():
        return torch.nn.Linear(2, 2)

    def tied():
        module = torch.nn.Linear(2, 2)
        module.twin = module.weight
        return module

    VALUE = 3
"""


def test_last_failed_runs_the_failure_alone(run, pytester):
    pytester.makepyfile(ours=BROKEN)
    pytester.syspathinsert()
    options = ("--ckptload-loader=ours:broken", "--ckptload-features=scalar,empty")
    result = run(*options)
    result.assert_outcomes(failed=2, passed=1)
    result = run(*options, "--lf")
    result.assert_outcomes(failed=2)


def test_a_loader_of_the_users(run, pytester):
    pytester.makepyfile(ours=BROKEN)
    pytester.syspathinsert()
    result = run("--ckptload-loader=ours:broken", "--ckptload-features=scalar")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "broken does not give the module that eager loading gives on cpu.",
            "CKPT101 bits-differ",
            "  at    scale: 1 of 1 elements differ, first at the only element: 1.8166706562042236",
            "        (0x3fe888aa), expected 0.8166707158088684 (0x3f511155) (from the file)",
            "The smallest case found, with scalar:",
            "  Case(module=ModuleSpec(factory='Scalar'), features=('scalar',))",
            "Replay it with:",
            "  pytest --ckptload-loader=ours:broken *broken::scalar* *--ckptload-replay=*",
            "*a script that shows it, with torch alone*",
        ]
    )


def test_a_failure_replays(run, pytester):
    pytester.makepyfile(ours=BROKEN)
    pytester.syspathinsert()
    case = Case(ModuleSpec("Scalar"), features=("scalar",)).to_json()
    options = ("--ckptload-loader=ours:broken", "ckptload::broken::replay")
    result = run(*options, f"--ckptload-replay={case}")
    result.assert_outcomes(failed=1)
    pytester.path.joinpath("case.json").write_text(case)
    result = run("--ckptload-replay=case.json")
    result.assert_outcomes(passed=6)


def test_a_recipe_by_its_name(run):
    result = run("--ckptload-loader=mmap", "--ckptload-features=tied", "-v")
    assert result.parseoutcomes() == {"passed": 2}
    result.stdout.fnmatch_lines(["ckptload::mmap::tied?cpu? PASSED*"])


def test_a_model_of_the_users(run, pytester):
    pytester.makepyfile(ours=BROKEN)
    pytester.syspathinsert()
    features = "--ckptload-features=dtype-drift,reordered,views"
    options = ("--ckptload-max-examples=5", features, "-rf")
    run("--ckptload-model=ours:tiny", *options).assert_outcomes(passed=6)
    result = run("--ckptload-model=ours:tied", *options)
    result.assert_outcomes(passed=3, failed=3)
    result.stdout.fnmatch_lines(["FAILED ckptload::mmap_meta_assign::tied?cpu?*"])


def test_loaders_of_a_hook_join(run, pytester):
    pytester.makepyfile(ours=BROKEN)
    pytester.makeconftest(
        """
        import ours

        def pytest_ckptload_loaders(config):
            return {"house": ours.mmap}
        """
    )
    pytester.syspathinsert()
    result = run(*FEW, "-k", "house")
    result.assert_outcomes(passed=3, deselected=18)
    result.stdout.fnmatch_lines(["ckptload: torch *, 7 loaders, *"])


OPTIMIZER = """
import torch

def make(module):
    return torch.optim.SGD(module.parameters(), lr=0.5, momentum=0.5)

def pytest_ckptload_optimizers(config):
    return {"house": make}
"""


def test_optimizers_of_a_hook_are_tried_with_every_resumer(run, pytester):
    pytester.makeconftest(OPTIMIZER)
    result = run("--ckptload", "-k", "optimizer-house")
    result.assert_outcomes(passed=len(RESUMERS), deselected=None)
    result.stdout.fnmatch_lines(["ckptload: torch *, 9 loaders, 0 models, 1 optimizer added, *"])


def test_an_optimizer_of_a_hook_is_a_callable(run, pytester):
    pytester.makeconftest("def pytest_ckptload_optimizers(config): return {'house': 3}")
    result = run("--ckptload")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    message = "'house' is a callable that makes an optimizer for a module, not 3"
    result.stderr.fnmatch_lines([f"*pytest_ckptload_optimizers: {message}"])


@pytest.mark.parametrize("hook", ["pytest_ckptload_loaders", "pytest_ckptload_optimizers"])
def test_a_hook_that_returns_no_dict_is_told_so(run, pytester, hook):
    pytester.makeconftest(f"def {hook}(config): return [1]")
    result = run("--ckptload")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {hook}: expected a dict by names, not [[]1]"])


def test_an_optimizer_of_a_hook_that_is_of_no_use_is_named(run, pytester):
    pytester.makeconftest(OPTIMIZER.replace("module.parameters()", "[]"))
    result = run("ckptload::eager_resume::optimizer-house")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["make_optimizer=make failed for a Linear: ValueError: *"])


def test_a_name_that_a_recipe_has_is_taken(run, pytester):
    pytester.makeconftest("def pytest_ckptload_loaders(config): return {'mmap': print}")
    result = run("--ckptload")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*pytest_ckptload_loaders: the name 'mmap' is taken"])


# --- known divergences


def test_each_names_a_rule_a_recipe_a_feature_and_an_issue():
    from pytest_ckptload.rules import RULES

    for line in DIVERGENCES:
        assert line.code in RULES
        assert set(line.recipes) <= set(RECIPES) | set(RESUMERS)
        assert line.feature in FEATURES or line.classes
        assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", line.issue)


def test_torch_releases_bound_them():
    everything = divergences_of("mmap_meta_assign", importlib.metadata.version("torch"))
    assert "CKPT401" in {line.code for line in everything}
    assert divergences_of("mmap_meta_assign", "2.0.1") == []
    assert not any(line.shows_on("cpu") for line in divergences_of("eager", "2.13.0+cpu"))


@pytest.mark.parametrize(
    ("torch_version", "expected"),
    [
        ("2.3.1", False),
        ("2.4.0", True),
        ("2.13.2+cpu", True),
        ("2.14.0.dev20260101", False),
        ("2.14.0", False),
        ("3.0", False),
    ],
)
def test_one_is_expected_from_a_release_to_before_another(monkeypatch, torch_version, expected):
    from pytest_ckptload.suite import divergences

    bounded = Divergence("CKPT401", "tied", ("mmap",), "a/b#1", "why", since="2.4", until="2.14")
    monkeypatch.setattr(divergences, "DIVERGENCES", (bounded,))
    assert divergences_of("mmap", torch_version) == ([bounded] if expected else [])


def known(line):
    """The outcome of the group `tied` for a recipe that is known to do what ``line`` says."""
    from pytest_ckptload.checks import Checker, Defaults
    from pytest_ckptload.suite.plan import Subject, SuiteTest

    group = next(
        g
        for g in groups(models={}, checkpoint=None, replay=False, features=("tied",), without=())
        if g.name == "tied"
    )
    subject = Subject("recipe", RECIPES["mmap_meta_assign"], known=(line,))
    return SuiteTest(subject, group, "cpu").run(Checker(Defaults(max_examples=0)))


def line(code):
    return Divergence(code, "tied", ("recipe",), "pytorch/pytorch#1", "why")


def test_one_that_is_met_is_expected():
    assert known(line("CKPT401")) == ([line("CKPT401")], [])


def test_another_rule_fails_all_the_same():
    from pytest_ckptload.finding import CheckpointMismatch

    with pytest.raises(CheckpointMismatch):
        known(line("CKPT303"))


def test_one_that_is_never_met_is_noticed(run, monkeypatch):
    from pytest_ckptload.suite import divergences

    monkeypatch.setattr(
        divergences,
        "DIVERGENCES",
        (Divergence("CKPT401", "tied", ("mmap",), "pytorch/pytorch#1", "mmap unties"),),
    )
    result = run("ckptload::mmap::tied[cpu]")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["This torch no longer does what it is known to do:", "*CKPT401: mmap unties*"]
    )


def test_a_users_loader_gets_no_leave():
    chosen = subjects({"ours": RECIPES["mmap_meta_assign"]}, recipes=True, torch_version="2.13.0")
    assert {s.name: bool(s.known) for s in chosen}["ours"] is False
    assert {s.name: bool(s.known) for s in chosen}["mmap_meta_assign"] is True


def test_a_tie_that_another_feature_brought_along_is_known_too():
    case = Case(ModuleSpec("TwoNames", {"size": 2}), features=("dtype-drift",))
    (finding,) = examine(case, mmap_meta_assign, torch.device("cpu"), Demands()).findings
    known = divergences_of("mmap_meta_assign", torch.__version__)
    assert any(line.covers(finding, case) for line in known)


def test_an_expanded_entry_that_is_not_cast_is_known_too():
    case = Case(
        ModuleSpec("Weights", {"size": 2, "dtype": "int32"}),
        CheckpointSpec({"weight": TensorSpec(form="expanded")}),
        features=("expanded", "integer-parameters"),
    )
    demands = Demands(dtype=torch.bfloat16)
    found = examine(case, RECIPES["mmap_stream"], torch.device("cpu"), demands).findings
    (finding,) = (finding for finding in found if not finding.advice)
    assert finding.code == "CKPT404"
    known = divergences_of("mmap_stream", torch.__version__)
    assert any(line.covers(finding, case) for line in known)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="others read from any address"
)
@pytest.mark.parametrize("format", ["unaligned", "deflated"])
def test_wide_numbers_that_are_mapped_from_any_address_are_known_too(format):
    from pytest_ckptload.checks import Checker, Defaults
    from pytest_ckptload.finding import CheckpointMismatch

    case = Case(
        ModuleSpec("Spectrum", {"size": 1, "dtype": "complex128"}),
        CheckpointSpec(format=format),
        features=("complex", format),
    )
    checker = Checker(Defaults(replay=case, promises=("formats",)))
    assert checker.check(RECIPES["eager"]).examples == 1
    with pytest.raises(CheckpointMismatch) as caught:
        checker.check(RECIPES["mmap"])
    (finding,) = caught.value.findings
    assert finding.code == "CKPT801"
    known = divergences_of("mmap", torch.__version__)
    assert any(line.covers(finding, case) for line in known)


@pytest.mark.parametrize("resumer", ["mmap_meta_assign_resume", "mmap_meta_swap_resume"])
def test_a_step_over_all_that_one_on_meta_stops_is_known_too(resumer):
    """As random cases have it: what is allowed, the parameter on meta, explains nothing more."""
    case = Case(
        ModuleSpec("LoadsByCopy", {"size": 2}),
        features=("custom-load",),
        optimizer=OptimizerSpec("LBFGS"),
    )
    verdict = examine_resume(case, RESUMERS[resumer], None, torch.device("cpu"))
    assert {finding.code for finding in verdict.findings} == {"CKPT303", "CKPT508"}
    known = divergences_of(resumer, torch.__version__)
    assert all(any(line.covers(f, case) for line in known) for f in verdict.findings)
