"""Training goes on to the same bytes: five steps after a resume, from the state that was saved."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from pytest_ckptload.case import Case, ModuleSpec, OptimizerSpec
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.examine import resuming
from pytest_ckptload.examine.resuming import examine_resume
from pytest_ckptload.examine.trials import continuing
from pytest_ckptload.examine.trials.continuing import Run, cast_state, expected_state, go_on
from pytest_ckptload.examine.trials.saving import save_run
from pytest_ckptload.examine.trials.stepping import take_step
from pytest_ckptload.faults.payloads import keeps_the_saved_dtypes, matches_state_by_name
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.observe import observe
from pytest_ckptload.recipes import eager_resume
from pytest_ckptload.zoo.feature import first
from pytest_ckptload.zoo.optimizers import OPTIMIZERS

CPU = torch.device("cpu")
LINEAR = ModuleSpec("Linear", {"in_features": 2, "out_features": 2})
ADAMW = OptimizerSpec("AdamW", {"lr": 0.125})


def findings(resume, optimizer=ADAMW, module=LINEAR, **more):
    return examine_resume(Case(module, optimizer=optimizer), resume, None, CPU, **more).findings


def told(resume, **chosen):
    return [f"{f.place}: {f.evidence}" for f in findings(resume, **chosen)]


def hooked(before=None, after=None):
    """Resumes, and has these called with the optimizer and the number of each step."""

    def resume(*arguments):
        module, optimizer = eager_resume(*arguments)
        for register, function in (
            (optimizer.register_step_pre_hook, before),
            (optimizer.register_step_post_hook, after),
        ):
            if function is not None:
                numbers = itertools.count(1)
                register(
                    lambda _, args, kw, function=function, numbers=numbers: function(
                        optimizer, next(numbers)
                    )
                )
        return module, optimizer

    return resume


def held(optimizer):
    return optimizer.param_groups[0]["params"][0]


# --- as if the run had never been interrupted


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_run_goes_on_as_the_run_itself(name, tmp_path):
    spec = OptimizerSpec(name, OPTIMIZERS[name].kwargs(first))
    module = nn.Linear(2, 2)
    optimizer = spec.build(module)
    for number in range(2):
        take_step(optimizer, observe(module), number)
    payload = {"model": module.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(payload, tmp_path / "run.pt")
    resumed = eager_resume(lambda: nn.Linear(2, 2), spec.build, tmp_path / "run.pt", CPU)
    run = Run(observe(resumed[0]), resumed[1])
    training = go_on(run, Run(observe(module), optimizer), 2)
    assert (training.error, training.steps, training.others) == (None, {}, [])
    assert training.after == 5


# --- where the eager optimizer cannot be had


class Odd(Exception):
    pass


def cannot(*arguments):
    raise Odd("no such tensors here")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_a_device_cannot_resume_eagerly_is_not_judged(device, monkeypatch):
    """On the CPU there is no reason that it should not."""
    monkeypatch.setattr(resuming, "eager_resume", cannot)
    case = Case(LINEAR, optimizer=ADAMW)
    if device == "cpu":
        with pytest.raises(Odd):
            examine_resume(case, eager_resume, None, CPU)
        return
    verdict = examine_resume(case, eager_resume, None, torch.device(device))
    assert (verdict.refused, verdict.judged) == ("Odd: no such tensors here", False)
    assert (verdict.findings, verdict.dtypes) == ((), ("float32",))


# --- what differs, and after how many steps


def lowers_the_rate_after(steps):
    def after(optimizer, number):
        if number == steps:
            optimizer.param_groups[0]["lr"] *= 0.5

    return hooked(after=after)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (1, "param_groups[0]['lr']: after the step, 0.03125, expected 0.0625"),
        (2, "param_groups[0]['lr']: after 2 steps, 0.03125, expected 0.0625"),
        (3, "weight: after 5 steps, 4 of 4 elements differ, first at [0, 0]: "),
    ],
)
def test_it_is_said_after_which_step(steps, said):
    assert told(lowers_the_rate_after(steps))[0].startswith(said)


def test_state_that_goes_astray_is_found_where_the_parameters_are_the_same():
    def after(optimizer, number):
        optimizer.state[held(optimizer)]["exp_avg"][0, 0] += 1.0

    (said,) = told(hooked(after=after))
    assert said.startswith("weight exp_avg: after the step, 1 of 4 elements differ, first at [0, 0")
    assert "(0x" in said


def test_a_buffer_that_a_step_changes_is_found():
    def resume(*arguments):
        module, optimizer = eager_resume(*arguments)
        optimizer.register_step_post_hook(lambda *_: module.running_mean.add_(1))
        return module, optimizer

    said = told(resume, module=ModuleSpec("BatchNorm1d", {"num_features": 2}))
    assert [line.partition(":")[0] for line in said] == ["running_mean"]


def test_a_loss_that_differs_is_found_where_nothing_else_does():
    """Between two comparisons the parameters are others, and then as they should be."""
    kept = []

    def after(optimizer, number):
        if number == 4:
            kept.append(held(optimizer).detach().clone())
            held(optimizer).data.add_(1)

    def before(optimizer, number):
        if number == 5:
            held(optimizer).data.copy_(kept.pop())

    (said,) = told(hooked(before, after))
    assert said.startswith("the loss: after 5 steps, ")


def test_a_step_that_raises_later_is_numbered():
    def before(optimizer, number):
        if number == 3:
            raise RuntimeError("out of steps")

    assert told(hooked(before)) == ["the step: number 3 raised RuntimeError: out of steps"]


def test_numbers_that_are_not_numbers_are_the_same():
    class Noted(torch.optim.SGD):
        def __init__(self, parameters):
            super().__init__(parameters, lr=0.125)
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter] = {"best": float("nan"), "seen": {"by": (1, None)}}

    checker = Checker(Defaults(max_examples=0, isolation="off"))
    make = {"make_optimizer": lambda module: Noted(module.parameters())}
    assert checker.check_resume(eager_resume, build=lambda: nn.Linear(2, 2), **make).examples


# --- the file's state, and what torch makes of it


class Alike(nn.Module):
    """Two parameters that nothing tells apart but their names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.ones(2))
        self.second = nn.Parameter(torch.ones(2))


def check(resume, **chosen):
    checker = Checker(Defaults(max_examples=0, isolation="off", strict=True))
    return checker.check_resume(resume, build=Alike, **chosen)


def test_state_by_name_is_right_and_goes_on():
    assert check(matches_state_by_name, features=["reordered-parameters"]).examples == 1


def test_state_by_position_may_keep_its_dtype():
    """Of a resumer that takes the order from torch, and not the casts."""
    optimizer = OptimizerSpec("AdamW", {"lr": 0.125}, named=True, reordered=True)
    mixed = replace(optimizer, state_dtype="bfloat16")
    norm = ModuleSpec("LayerNorm", {"normalized_shape": [2]})
    for spec in (optimizer, mixed):
        found = findings(keeps_the_saved_dtypes, spec, norm)
        assert {finding.code for finding in found} == {"CKPT511"}


def test_another_parameters_state_is_not_a_cast_one_where_some_values_are_equal():
    """Every step size is the learning rate at first, be it complex or not."""
    rprop = OptimizerSpec("Rprop", {"lr": 0.125}, named=True, reordered=True)
    real = ModuleSpec("Aliased", {"size": 1})
    wave = ModuleSpec("Spectrum", {"size": 1, "dtype": "complex64"})
    both = ModuleSpec("Sequential", children={"0": real, "1": wave})
    found = findings(keeps_the_saved_dtypes, rprop, both)
    assert {finding.code for finding in found} == {"CKPT511"}


def test_state_by_position_is_advice():
    with pytest.raises(CheckpointMismatch, match=r"(?s)CKPT511 state-of-another.* first exp_avg: "):
        check(eager_resume, features=["reordered-parameters"])
    report = Checker(Defaults(max_examples=0)).check_resume(
        eager_resume, build=Alike, features=["reordered-parameters"]
    )
    assert {finding.code for finding in report.advice} == {"CKPT511"}


def test_state_by_name_that_goes_elsewhere_is_found():
    def resume(*arguments):
        module, optimizer = matches_state_by_name(*arguments)
        optimizer.register_step_post_hook(lambda *_: module.second.data.add_(1))
        return module, optimizer

    with pytest.raises(CheckpointMismatch, match=r"(?s)CKPT508 .* second: after the step"):
        check(resume, features=["reordered-parameters"])


def test_state_in_the_dtype_of_the_file_is_right():
    assert check(keeps_the_saved_dtypes, features=["state-dtype"]).examples == 2


def test_state_in_a_third_dtype_is_not():
    def resume(*arguments):
        module, optimizer = keeps_the_saved_dtypes(*arguments)
        for state in optimizer.state.values():
            state["exp_avg"] = state["exp_avg"].half()
        return module, optimizer

    with pytest.raises(CheckpointMismatch) as caught:
        check(resume, features=["state-dtype"])
    assert {finding.code for finding in caught.value.findings} == {"CKPT506"}


def test_state_of_parameters_that_are_frozen_since_is_kept():
    def resume(*arguments):
        module, optimizer = eager_resume(*arguments)
        for parameter in [p for p in optimizer.state if not p.requires_grad]:
            del optimizer.state[parameter]
        return module, optimizer

    checker = Checker(Defaults(max_examples=0))
    with pytest.raises(CheckpointMismatch, match=r"(?s)CKPT505 .* bias: no state, expected"):
        checker.check_resume(resume, features=["frozen-since"])


def test_of_a_parameter_that_had_no_state_by_name_none_is_expected():
    """The eager optimizer gave it that of another."""
    eager, saved = {"a": {"step": 1}}, {"b": {"step": 1}}
    assert expected_state({"b": {"step": 1}}, eager, saved) == saved
    assert expected_state({"a": {"step": 1}}, eager, saved) == eager
    assert expected_state({}, eager, saved) == {}
    assert expected_state({}, eager, {"a": {"step": 2}}) == eager
    assert expected_state({}, eager, None) == eager


def test_state_by_name_may_be_cast_as_torch_casts():
    """The two halves of what torch does are two things: a resumer may take one of them."""
    saved = {"b": {"step": 1, "exp_avg": torch.ones(1, dtype=torch.bfloat16)}}
    module = nn.Module()
    module.b = nn.Parameter(torch.zeros(1))
    cast = cast_state(saved, observe(module))
    assert cast["b"]["exp_avg"].dtype == torch.float32
    for own in (saved, cast):
        assert expected_state(own, {"a": {"step": 1}}, saved, None, cast) == own
    double = {"b": {"step": 1, "exp_avg": torch.ones(1, dtype=torch.float64)}}
    assert expected_state(double, {"a": {"step": 1}}, saved, None, cast) == {}


@pytest.mark.parametrize("kwargs", [{"fused": True}, {"foreach": True}, {}])
@pytest.mark.parametrize("trained", ["all", "some"])
def test_nothing_is_stepped_with_the_state_of_another_shape(kwargs, trained, monkeypatch):
    """A fused step would read and write beyond it."""
    stepped = []
    monkeypatch.setattr(continuing, "take_step", lambda *given: stepped.append(given))
    optimizer = OptimizerSpec(
        "Adagrad", {"lr": 0.125, **kwargs}, named=True, reordered=True, trained=trained
    )
    module = ModuleSpec("Linear", {"in_features": 64, "out_features": 8})
    found = findings(eager_resume, optimizer, module)
    assert {finding.code for finding in found} == {"CKPT511"}
    assert stepped == []


def test_state_where_none_was_saved_is_another_parameters():
    optimizer = OptimizerSpec("AdamW", {"lr": 0.125}, named=True, reordered=True, trained="some")
    norm = ModuleSpec("LayerNorm", {"normalized_shape": [2]})
    said = told(eager_resume, optimizer=optimizer, module=norm)
    assert said == ["weight: has state, and none was saved for this name"]


def test_what_was_saved_is_known_by_name_where_it_is_laid_out_as_torch_does():
    case = Case(LINEAR, optimizer=ADAMW)
    saved = save_run(case, subject := subject_of(case), ADAMW.build)
    assert saved.state is not None
    assert {name: set(state) for name, state in saved.state.items()} == {
        "weight": {"step", "exp_avg", "exp_avg_sq"},
        "bias": {"step", "exp_avg", "exp_avg_sq"},
    }

    class Listed(torch.optim.SGD):
        def state_dict(self):
            return [super().state_dict()]

    assert save_run(case, subject, lambda m: Listed(m.parameters())).state is None


def subject_of(case):
    from pytest_ckptload.examine.subject import Subject

    return Subject.of(case)


# --- the scheduler, where a resumer gives it


def make_scheduler(optimizer):
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)


def with_scheduler(restore=True, late=False, make=make_scheduler):
    def resume(build, make_optimizer, path, device):
        payload = torch.load(path, map_location=device, weights_only=True)
        module = build()
        module.load_state_dict(payload["model"])
        optimizer = make_optimizer(module)
        if late:
            optimizer.load_state_dict(payload["optimizer"])
        scheduler = make(optimizer)
        if restore:
            scheduler.load_state_dict(payload["scheduler"])
        if not late:
            optimizer.load_state_dict(payload["optimizer"])
        return module, optimizer, scheduler

    return resume


def check_with_scheduler(resume, **chosen):
    checker = Checker(Defaults(max_examples=0, isolation="off"))
    chosen = {"features": [], "make_scheduler": make_scheduler, **chosen}
    return checker.check_resume(resume, build=Alike, **chosen)


def test_a_scheduler_that_is_restored_is_right():
    assert check_with_scheduler(with_scheduler()).examples >= len(OPTIMIZERS)
    assert check_with_scheduler(eager_resume).examples >= len(OPTIMIZERS)


def test_a_scheduler_that_is_not_restored_is_found():
    with pytest.raises(CheckpointMismatch, match="scheduler's last_epoch: after the step, 1, exp"):
        check_with_scheduler(with_scheduler(restore=False))


def test_a_scheduler_that_is_made_after_the_load_sets_the_rate():
    """As that of one cycle does, whatever the optimizer's is."""

    def make(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.5, total_steps=20, cycle_momentum=False
        )

    def sgd(module):
        return torch.optim.SGD(module.parameters(), lr=0.125)

    chosen = {"make_scheduler": make, "make_optimizer": sgd}
    assert check_with_scheduler(with_scheduler(make=make), **chosen).examples
    with pytest.raises(CheckpointMismatch):
        check_with_scheduler(with_scheduler(make=make, late=True), **chosen)


def test_a_scheduler_of_the_resumers_own_is_its_own_affair():
    def resume(*arguments):
        module, optimizer = eager_resume(*arguments)
        return module, optimizer, make_scheduler(optimizer)

    checker = Checker(Defaults(max_examples=0, isolation="off"))
    assert checker.check_resume(resume, build=Alike, features=["groups"]).examples


def test_what_is_no_scheduler_is_named():
    def resume(*arguments):
        return (*eager_resume(*arguments), 3)

    (finding,) = findings(resume)
    assert (finding.code, finding.evidence) == ("CKPT807", "returned a int for a scheduler")


def test_state_by_name_is_held_to_nothing_of_the_parameter_that_stands_there():
    """Adafactor keeps other things of a vector than of a matrix."""
    eager = {"a": {"step": 1, "row": 2}, "b": {"step": 1, "whole": 3}}
    saved = {"a": {"step": 1, "whole": 3}, "b": {"step": 1, "row": 2}}
    assert expected_state(saved, eager, saved) == saved
    assert expected_state(eager, eager, saved) == eager
