"""`--ckptload-mutants`: what a check kills, what it lets live, and what is said of either."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_ckptload.checks import Checker, Defaults, mutants
from pytest_ckptload.checks.mutants import tried_with_mutants
from pytest_ckptload.faults import FAULTS
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.recipes import eager, eager_resume, mmap, mmap_meta_assign
from pytest_ckptload.report.mutants import mutant_lines
from pytest_ckptload.scores import KILLED, SURVIVED, UNFIT, Mutant, Trial

pytestmark = pytest.mark.filterwarnings("ignore:for .*copying from a non-meta:UserWarning")


@pytest.fixture
def few(monkeypatch):
    """Some faults alone, as many as tell what is asked."""

    def choose(*names):
        monkeypatch.setattr(mutants, "FAULTS", {name: FAULTS[name] for name in names})

    return choose


def trial_of(load, method="check", defaults=None, **arguments):
    made = []
    checker = Checker(defaults or Defaults(max_examples=3, seed=0))
    tried_with_mutants(checker, method, load, arguments, made.append)
    (trial,) = made
    return trial


def outcomes(trial):
    return {mutant.fault: mutant for mutant in trial.mutants}


@pytest.fixture(scope="module")
def whole():
    return trial_of(mmap)


def test_a_check_of_everything_kills_all_that_break_no_promise(whole):
    assert whole.those(SURVIVED) == []
    assert len(whole.those(KILLED)) > 40
    assert {m.code for m in whole.those(KILLED)} > {"CKPT101", "CKPT401", "CKPT706", "CKPT802"}


def test_each_is_killed_by_its_rule(whole):
    others = [m for m in whole.those(KILLED) if m.code != FAULTS[m.fault].code]
    assert others == []


def test_one_that_breaks_a_promise_nobody_made_is_not_applicable(whole):
    mutant = outcomes(whole)["swallows_errors"]
    assert mutant.outcome == UNFIT
    assert mutant.reason == "it breaks the promise 'robust', which is not made"


def test_one_that_only_advises_is_not_applicable(whole):
    mutant = outcomes(whole)["returns_eval"]
    assert mutant.outcome == UNFIT
    assert mutant.reason == "CKPT307 only advises: with --ckptload-strict it fails"


def test_a_promise_that_is_made_is_tested(few):
    few("swallows_errors")
    trial = trial_of(eager, promises={"robust"}, features=["damaged"], max_examples=0)
    assert outcomes(trial)["swallows_errors"].outcome == KILLED


def test_where_advice_fails_it_is_tested(few):
    few("returns_eval")
    defaults = Defaults(max_examples=3, seed=0, strict=True)
    assert (
        outcomes(trial_of(eager, defaults=defaults, features=["frozen"]))["returns_eval"].outcome
        == KILLED
    )


def test_what_is_not_generated_is_not_found(few):
    few("forgets_frozen", "unties")
    tried = outcomes(trial_of(mmap, features=["frozen"]))
    assert tried["forgets_frozen"].outcome == KILLED
    assert tried["unties"].outcome == SURVIVED
    assert tried["unties"].reason == "no case has the feature tied: have it generated"


def test_what_is_allowed_is_not_found(few):
    few("forgets_frozen")
    allow = {"CKPT206": "callers freeze again"}
    mutant = outcomes(trial_of(mmap, features=["frozen"], allow=allow))["forgets_frozen"]
    assert mutant.outcome == SURVIVED
    assert mutant.reason == "CKPT206 is allowed here: callers freeze again"


def test_what_is_allowed_by_name_is_said_with_the_names(few):
    few("forgets_frozen")
    allow = {"CKPT206 ?*": "callers freeze again"}
    mutant = outcomes(trial_of(mmap, features=["frozen"], allow=allow))["forgets_frozen"]
    assert mutant.reason == "CKPT206 ?* is allowed here: callers freeze again"


def test_what_a_given_module_does_not_have_cannot_be_broken(few):
    few("unties", "flips_a_bit")
    tried = outcomes(trial_of(mmap, build=lambda: nn.Linear(2, 2), features=["reordered"]))
    assert tried["unties"].outcome == UNFIT
    assert tried["unties"].reason == "nothing in the given module shows it; it takes tied"
    assert tried["flips_a_bit"].outcome == KILLED


def test_what_a_given_module_has_is_broken(few):
    few("unties")
    build = FAULTS["TiesAtConstruction"].right["build"]
    assert outcomes(trial_of(mmap, build=build, features=[]))["unties"].outcome == KILLED


def test_without_a_worker_nothing_is_brought_down(few):
    few("maps_a_file_that_shrinks", "flips_a_bit")
    defaults = Defaults(max_examples=3, seed=0, isolation="off")
    tried = outcomes(trial_of(mmap, defaults=defaults, features=["scalar"]))
    assert tried["maps_a_file_that_shrinks"].outcome == UNFIT
    assert "do not run in a worker" in tried["maps_a_file_that_shrinks"].reason
    assert tried["flips_a_bit"].outcome == KILLED


def test_resumers_have_mutants_of_their_own(few):
    few("wraps_after_the_optimizer", "flips_a_bit", "reads_its_file_again", "forgets_the_state")
    tried = outcomes(trial_of(eager_resume, "check_resume", features=["scalar"]))
    assert {name: mutant.outcome for name, mutant in tried.items()} == {
        "wraps_after_the_optimizer": KILLED,
        "flips_a_bit": KILLED,
    }


def test_a_loader_that_does_not_pass_has_no_mutants():
    made = []
    checker = Checker(Defaults(max_examples=3, seed=0, shrink=False))
    with pytest.raises(CheckpointMismatch):
        tried_with_mutants(checker, "check", mmap_meta_assign, {"features": ["tied"]}, made.append)
    assert made == [Trial("mmap_meta_assign", failed="it does not pass the check itself")]


def test_a_given_file_is_not_given_to_mutants(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(2)}, path)
    before = path.read_bytes()
    trial = trial_of(mmap, checkpoint=path)
    assert trial.mutants == ()
    assert "only read" in trial.failed
    assert path.read_bytes() == before


def test_with_strict_those_that_survive_fail(few):
    few("unties")
    defaults = Defaults(max_examples=3, seed=0, strict=True)
    with pytest.raises(
        AssertionError, match=r"1 mutant of mmap passes this check: unties \(CKPT401"
    ):
        trial_of(mmap, defaults=defaults, features=["frozen"])


def test_what_is_tried_is_not_counted(few):
    few("flips_a_bit")
    checker = Checker(Defaults(max_examples=3, seed=0))
    alone = Checker(Defaults(max_examples=3, seed=0))
    tried_with_mutants(checker, "check", mmap, {"features": ["frozen"]}, lambda trial: None)
    alone.check(mmap, features=["frozen"])
    assert checker.tried == alone.tried


LINES = """\
tests/test_it.py::test_it, load: 1 of 2 mutants killed, 2 not applicable
  survived CKPT401 unties: CKPT401 is allowed here: we tie again
           Each name is given a Parameter of its own, over the same memory.
  killed flips a bit CKPT101
  not applicable lives in the map, tidies up: because
"""


def test_the_lines_say_what_to_do():
    trial = Trial(
        "load",
        (
            Mutant("unties", "CKPT401", SURVIVED, "CKPT401 is allowed here: we tie again"),
            Mutant("flips_a_bit", "CKPT101", KILLED),
            Mutant("lives_in_the_map", "CKPT703", UNFIT, "because"),
            Mutant("tidies_up", "CKPT706", UNFIT, "because"),
        ),
    )
    lines = mutant_lines({"tests/test_it.py::test_it": [Trial.from_dict(trial.as_dict())]})
    assert "\n".join(lines) + "\n" == LINES


FEW = """
import pytest
from pytest_ckptload.checks import mutants

@pytest.fixture(autouse=True, scope="session")
def few():
    with pytest.MonkeyPatch.context() as patch:
        names = ("unties", "forgets_frozen")
        patch.setattr(mutants, "FAULTS", {name: mutants.FAULTS[name] for name in names})
        yield
"""

GATE = """
from pytest_ckptload import recipes

def test_it(ckptload):
    ckptload.check(loader=recipes.mmap, features=["frozen"], max_examples=2)
"""


@pytest.mark.parametrize("options", [(), ("-n1",)], ids=["alone", "xdist"])
def test_the_summary_has_them(pytester, options):
    pytester.makeconftest(FEW)
    pytester.makepyfile(GATE)
    result = pytester.runpytest_inprocess("--ckptload-mutants", *options)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*ckptload: mutants*",
            "*::test_it, mmap: 1 of 2 mutants killed, 0 not applicable",
            "  survived CKPT401 unties: no case has the feature tied: have it generated",
        ]
    )


def test_the_suite_tries_those_of_given_loaders(pytester, few):
    few("unties", "forgets_frozen")
    result = pytester.runpytest_inprocess(
        *("--ckptload-loader=mmap", "--ckptload-mutants", "--ckptload-features=frozen"),
        *("--ckptload-max-examples=2", "-v"),
    )
    result.stdout.fnmatch_lines(
        ["ckptload::mmap::mutants?cpu? PASSED*", "ckptload::mmap::mutants?cpu?, mmap: 1 of 2*"]
    )


def test_without_a_check_the_summary_says_so(pytester):
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess("--ckptload-mutants")
    result.stdout.fnmatch_lines(["*ckptload: mutants*", "no check passed by: *"])


def test_a_given_file_on_the_command_line_is_refused(pytester):
    (pytester.path / "model.pt").write_bytes(b"")
    result = pytester.runpytest_inprocess("--ckptload-mutants", "--ckptload-checkpoint=model.pt")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--ckptload-mutants and --ckptload-checkpoint contradict*"])
