"""What was tried is counted and shown, and the default budget tries it all."""

from __future__ import annotations

import json
import re

import pytest
from torch import nn

from pytest_ckptload.case import Case, ModuleSpec
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.finding import Verdict
from pytest_ckptload.recipes import mmap
from pytest_ckptload.report.coverage import coverage_lines
from pytest_ckptload.search import Budget, search
from pytest_ckptload.strategies import covering, random_cases, resume_cases, resume_covering
from pytest_ckptload.strategies.pairs import LEAST, paired
from pytest_ckptload.tried import Tried
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.catalogue import CATALOGUE
from pytest_ckptload.zoo.optimizers import OPTIMIZERS
from pytest_ckptload.zoo.structure import structure_of

# --- counting


def tried(*features, factory="Linear", dtypes=("float32",)):
    counts = Tried()
    counts.add(Case(ModuleSpec(factory), features=features), dtypes)
    return counts


def test_a_case_counts_once_for_each_thing_in_it():
    counts = tried("tied", "scalar", "views")
    assert counts.cases == 1
    assert counts.features == {"tied": 1, "scalar": 1, "views": 1}
    assert counts.classes == {"Linear": 1}
    assert counts.dtypes == {"float32": 1}
    assert counts.pairs == {"scalar+tied": 1, "tied+views": 1, "scalar+views": 1}


def test_counts_add_up_and_go_through_json():
    counts = tried("tied", "scalar")
    counts.merge(tried("scalar", "tied", factory="GRU", dtypes=("int8",)))
    assert Tried.from_dict(json.loads(json.dumps(counts.as_dict()))) == counts
    assert counts.cases == counts.pairs["scalar+tied"] == 2
    assert set(counts.dtypes) == {"float32", "int8"}
    taken = counts.taken()
    assert taken.cases == 2
    assert counts == Tried()


def test_a_report_says_what_was_tried():
    report = Checker(Defaults(seed=1)).check(mmap, features=["tied", "scalar"], max_examples=20)
    assert report.tried.cases == report.examples
    assert report.features == dict(report.tried.features)
    assert set(report.tried.features) == {"tied", "scalar"}
    assert report.tried.pairs["scalar+tied"] >= 1
    # Those of the parameters that the feature brings.
    assert {"float32", "bfloat16", "float64"} <= set(report.tried.dtypes)
    assert not report.tried.optimizers


# --- printing


def test_what_was_never_tried_comes_first_and_then_the_rarest():
    counts = tried("tied", "scalar")
    counts.merge(tried("tied"))
    text = "\n".join(coverage_lines(counts))
    assert text.startswith("2 cases\n\n")
    assert f"features: 2 of {len(FEATURES)}\n  never: " in text
    assert re.search(r"^  scalar 1, tied 2$", text, re.M)
    assert f"classes of torch.nn: 1 of {len(CATALOGUE)}\n  never: PReLU, Embedding, " in text
    assert re.search(r"^dtypes: 1 of \d+\n  never: float64, ", text, re.M)
    assert re.search(r"^optimizers: 0 of \d+\n  never: ", text, re.M)
    possible = len(FEATURES) * (len(FEATURES) - 1) // 2
    assert f"pairs of features: 1 of {possible}\n  never: " in text
    assert f", and {possible - 13} more\n  once 1" in text
    assert max(map(len, text.splitlines())) <= 100


def test_pairs_are_told_by_how_often():
    counts = Tried(1)
    counts.pairs.update({"a+b": 1, "a+c": 4, "b+c": 20, "c+d": 1})
    assert list(coverage_lines(counts))[-1] == "  once 2, 2 to 4 times 1, more often 1"


def test_what_is_not_of_this_torch_is_shown_where_it_was_tried():
    text = "\n".join(coverage_lines(tried("a-feature-of-the-users", factory="Scalar")))
    assert f"features: 1 of {len(FEATURES) + 1}\n" in text
    assert "a-feature-of-the-users 1" in text
    assert "classes and edits of features: 1 of 1\n  Scalar 1\n" in text


# --- the option

TESTS = """
    import pytest
    from hypothesis import settings
    from pytest_ckptload.recipes import eager, eager_resume

    def loses(build, path, device):
        return build()

    def test_passes(ckptload):
        ckptload.check(eager, features=["tied"], max_examples=1)
        ckptload.check(eager, features=["empty"], max_examples=1)

    def test_fails(ckptload):
        ckptload.check(loses, features=["scalar"], max_examples=1)

    def test_resumes(ckptload):
        ckptload.check_resume(eager_resume, features=["frozen"], max_examples=1)

    @settings(max_examples=5)
    @pytest.mark.ckptload(features=["shared-module"])
    def test_drawn(ckptload_case):
        pass
"""


@pytest.fixture
def run(pytester):
    pytester.makepyfile(TESTS)

    def run(*arguments):
        # A seed for all: what is drawn is the same however the session is run.
        arguments = ("-p", "no:benchmark", "--ckptload-seed=1", *arguments)
        result = pytester.runpytest_inprocess(*arguments)
        shown = result.stdout.str().partition("ckptload: coverage ===")[2]
        return result, shown.partition("\n=")[0].partition("\n")[2]

    return run


def test_without_the_option_nothing_is_shown(run):
    result, shown = run()
    result.assert_outcomes(passed=3, failed=1)
    assert not shown
    assert "cases\n" not in result.stdout.str().partition("short test summary")[2]


def test_all_tests_of_the_session_are_counted(run):
    result, shown = run("--ckptload-coverage")
    result.assert_outcomes(passed=3, failed=1)
    assert re.match(r"\d+ cases\n", shown)
    for name in ("tied", "empty", "scalar", "frozen", "shared-module"):
        assert re.search(rf"^  [^:]*\b{name} \d", shown, re.M), name
    assert re.search(r"^optimizers: .*\n  never: (.*\n)+?  .*AdamW \d+", shown, re.M)


def test_under_xdist_the_counts_are_the_same(run):
    _, alone = run("--ckptload-coverage")
    result, together = run("--ckptload-coverage", "-n2")
    result.assert_outcomes(passed=3, failed=1)
    assert together == alone != ""


def test_the_ini_key_is_enough(run, pytester):
    pytester.makeini("[pytest]\nckptload_coverage = true")
    _, shown = run("-k", "passes")
    assert "features: 2 of " in shown


def test_it_says_so_where_nothing_was_tried(pytester):
    pytester.makepyfile("def test_own(): pass")
    result = pytester.runpytest_inprocess("-p", "no:benchmark", "--ckptload-coverage")
    result.stdout.fnmatch_lines(["*= ckptload: coverage =*", "no case was tried"])
    assert result.ret == 0


def test_items_of_the_suite_are_counted(pytester):
    arguments = ("--ckptload-coverage", "ckptload::mmap::scalar", "--ckptload-max-examples=1")
    result = pytester.runpytest_inprocess("-p", "no:benchmark", *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"features: 1 of {len(FEATURES)}", "  scalar *"])


# --- the default budget

# Of the features of a case: those of optimizers are for resumers, which have their own.
GENERATED = [name for name, feature in FEATURES.items() if feature.of != "optimizer"]


def budget(seed, covering=covering, cases=random_cases):
    """What a check with the default budget tries where nothing is found: nothing is loaded here."""
    verdict = Verdict(judged=True, optimizer="none")
    settings = Budget(max_examples=100, seed=seed)
    return search(lambda case: verdict, covering(), cases(), settings).tried


@pytest.mark.parametrize("seed", range(10))
def test_the_default_budget_tries_every_feature_five_times_and_every_class(seed):
    tried = budget(seed)
    assert set(tried.features) == set(GENERATED)
    assert min(tried.features.values()) >= 5, tried.features
    assert set(CATALOGUE) <= set(tried.classes)
    # Random cases put together what the covering set does not.
    assert len(tried.pairs) > len([case for case in covering() if len(case.features) == 2])


def test_the_default_budget_of_a_resumer_tries_every_optimizer_and_its_features():
    tried = budget(0, resume_covering, resume_cases)
    of_optimizers = set(FEATURES) - set(GENERATED)
    assert min(tried.features[name] for name in of_optimizers) >= 5, tried.features
    assert set(OPTIMIZERS) == set(tried.optimizers)


def test_the_covering_set_alone_is_enough_and_stays_small():
    tried = Tried()
    fixed = list(covering())
    for case in fixed:
        tried.add(case)
    assert min(tried.features[name] for name in GENERATED) >= LEAST
    assert max(len(case.features) for case in fixed) == 2
    assert len(fixed) <= 450


def test_a_given_model_meets_every_feature_of_checkpoints_as_often():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    tried = Tried()
    for case in covering(structure=structure_of(model)):
        tried.add(case)
    assert len(tried.features) > 15
    assert min(tried.features.values()) >= LEAST
    assert not tried.classes


def test_pairs_are_of_features_that_go_together():
    """Two refused files would hide each other; a module and a checkpoint meet on one tensor."""
    two = [case.features for case in covering() if len(case.features) == 2]
    assert len(set(two)) == len(two)
    for names in two:
        assert any(FEATURES[name].loadable for name in names)
    halves = sum(FEATURES[one].of != FEATURES[other].of for one, other in two)
    assert halves > len(two) / 2


def test_a_feature_in_enough_cases_gets_no_more():
    features = [FEATURES["tied"], FEATURES["scalar"]]

    def make(on):
        return Case(features=tuple(feature.name for feature in on))

    assert list(paired(features, {"tied": 5, "scalar": 5}, make)) == []
    assert [c.features for c in paired(features, {"tied": 5, "scalar": 1}, make)] == [
        ("tied", "scalar")
    ]
    # One that does not go with the module at all is not tried in vain.
    assert list(paired(features, {"scalar": 1}, make)) == []


def test_a_pair_that_cannot_be_is_no_case():
    features = [FEATURES["tied"], FEATURES["scalar"]]
    alone = Case(features=("scalar",))
    assert list(paired(features, {"tied": 1, "scalar": 1}, lambda on: alone)) == []
