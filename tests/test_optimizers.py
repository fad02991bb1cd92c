"""Optimizers as data: all classes of ``torch.optim``, all features, valid for every module; and
``check_resume``, which tries them all and accuses no resumer that does its job.
"""

from __future__ import annotations

import inspect
import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import find, settings
from hypothesis.errors import InvalidArgument, NoSuchExample
from torch import nn

from pytest_ckptload.case import Case, GroupSpec, ModuleSpec, OptimizerSpec
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.examine import resuming
from pytest_ckptload.examine.resuming import examine_resume
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.examine.trials import continuing
from pytest_ckptload.examine.trials.saving import save_run
from pytest_ckptload.examine.trials.stepping import take_step
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.observe import observe
from pytest_ckptload.recipes import eager, eager_resume
from pytest_ckptload.strategies import (
    covering,
    optimizers,
    random_cases,
    resume_cases,
    resume_covering,
)
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.feature import Plan, first
from pytest_ckptload.zoo.optimizers import NAMED, OPTIMIZERS, SCHEDULERS

CPU = torch.device("cpu")
SIMPLEST = OptimizerSpec("AdamW", {"lr": 0.125})
OF_OPTIMIZERS = [name for name, feature in FEATURES.items() if feature.of == "optimizer"]

LEFT_OUT = {"Optimizer": "the base class"}
AS_TORCH_DOES = {
    "CKPT510": "torch casts state to the dtype of its parameter",
    "CKPT511": "torch gives out state in the order of the parameters",
}

each_class = pytest.mark.parametrize("entry", OPTIMIZERS.values(), ids=lambda entry: entry.name)
each_feature = pytest.mark.parametrize("name", OF_OPTIMIZERS)


class Everything(nn.Module):
    """Parameters of every kind that some class cannot step."""

    def __init__(self) -> None:
        super().__init__()
        shapes = [(), (3,), (2, 3), (2, 1, 2), (0, 2), (2, 0)]
        dtypes = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64]
        for number, (shape, dtype) in enumerate(itertools.product(shapes, dtypes)):
            self.register_parameter(f"p{number}", nn.Parameter(torch.ones(shape, dtype=dtype)))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
        self.counts = nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)


def specs(entry) -> Any:
    """Every optimizer of a class without features."""
    for picks in itertools.product(*entry.choices):
        kwargs: dict[str, Any] = {}
        for pick in picks:
            kwargs |= pick
        yield OptimizerSpec(entry.name, kwargs)


def with_feature(name: str, spec: OptimizerSpec | None = None) -> OptimizerSpec | None:
    plain = OptimizerSpec("Adagrad", {"lr": 0.125}) if name == "built-before-load" else SIMPLEST
    plan = Plan(optimizer=spec or plain)
    return None if FEATURES[name].apply(plan, first) is False else plan.optimizer


def held(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


# --- the catalogue


def test_every_class_of_torch_is_in_the_catalogue_or_left_out_for_a_reason():
    classes = {
        name
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    }
    assert set(OPTIMIZERS) | set(LEFT_OUT) == classes
    assert next(iter(OPTIMIZERS)) == "AdamW"


FEATURES_OF_ARGUMENTS = {"foreach", "fused", "capturable"}
ARGUMENTS_LEFT_OUT = {
    "differentiable": "torch steps no leaf with it, and parameters are leaves",
    "eps": "a number in each step, that is in the group as the others are",
    "alpha": "the same",
    "beta2_decay": "the same",
    "d": "the same",
    "lambd": "the same",
    "momentum_decay": "the same",
    "step_sizes": "the same",
    "ns_coefficients": "the same",
    "ns_steps": "the same",
    "adjust_lr_fn": "the same",
    "max_eval": "bounds what max_iter bounds",
    "tolerance_grad": "bounds what max_iter bounds",
    "tolerance_change": "bounds what max_iter bounds",
}


def test_every_argument_of_every_class_is_chosen_or_left_out_for_a_reason():
    left_out = set()
    for name, entry in OPTIMIZERS.items():
        arguments = set(inspect.signature(getattr(torch.optim, name)).parameters) - {"params"}
        chosen = {key for options in entry.choices for option in options for key in option}
        assert chosen <= arguments
        left_out |= arguments - chosen - FEATURES_OF_ARGUMENTS
    assert left_out == set(ARGUMENTS_LEFT_OUT)


def test_what_torch_exports_is_in_the_catalogue():
    exported = {name for name in torch.optim.__all__ if inspect.isclass(getattr(torch.optim, name))}
    assert exported - set(LEFT_OUT) == set(OPTIMIZERS)


def test_no_class_steps_parameters_with_differentiable():
    module = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(module.parameters(), differentiable=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        take_step(optimizer, observe(module), 0)


@each_class
def test_every_mixture_is_valid_for_every_kind_of_parameter(entry):
    for spec in specs(entry):
        module = Everything()
        optimizer = spec.build(module)
        assert type(optimizer) is getattr(torch.optim, entry.name)
        before = [parameter.detach().clone() for parameter in held(optimizer)]
        for number in range(2):
            take_step(optimizer, observe(module), number)
        assert before
        assert any(not torch.equal(*pair) for pair in zip(before, held(optimizer), strict=True))
        json.loads(json.dumps(spec.as_dict()))


@each_class
def test_it_is_given_all_that_it_can_step(entry):
    """What is left out of the spec's optimizer is what the class refuses."""
    module = Everything()
    taken = {id(parameter) for parameter in held(OptimizerSpec(entry.name).build(module))}
    for parameter in module.parameters():
        if not parameter.requires_grad or id(parameter) in taken:
            continue
        with pytest.raises((RuntimeError, ValueError, ZeroDivisionError)):
            take_step(getattr(torch.optim, entry.name)([parameter]), observe(module), 0)


@each_class
def test_a_module_without_what_it_steps_is_no_error(entry):
    optimizer = OptimizerSpec(entry.name).build(nn.Module())
    assert held(optimizer) == []


def test_a_class_that_torch_does_not_have_is_named():
    with pytest.raises(ValueError, match=r"no optimizer 'Adamant'; there are: .*'AdamW'"):
        OptimizerSpec("Adamant").build(nn.Linear(1, 1))


# --- pure data


@each_feature
def test_a_spec_survives_json_and_its_repr(name):
    spec = with_feature(name)
    assert spec is not None
    case = Case(ModuleSpec("Linear", {"in_features": 1, "out_features": 1}), optimizer=spec)
    assert Case.from_json(case.to_json()) == case
    assert eval(repr(case)) == case


def test_a_repr_leaves_out_what_is_as_always():
    assert repr(SIMPLEST) == "OptimizerSpec(factory='AdamW', kwargs={'lr': 0.125})"
    assert "optimizer" not in repr(Case())


def test_groups_are_dealt_the_parameters_in_turn():
    spec = OptimizerSpec("SGD", {"lr": 1}, (GroupSpec(), GroupSpec({"lr": 2}, True), GroupSpec()))
    module = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    groups = spec.build(module).param_groups
    a, b, c, d = module.parameters()
    sorted_out = [[id(p) for p in group["params"]] for group in groups]
    assert sorted_out == [[id(a), id(c)], [], [id(b), id(d)]]
    assert [group["lr"] for group in groups] == [1, 2, 1]


@pytest.mark.skipif(not NAMED, reason="this torch makes no optimizer from named parameters")
def test_groups_have_names_where_torch_lets_them():
    spec = OptimizerSpec("SGD", {"lr": 1}, (GroupSpec(), GroupSpec()), named=True)
    groups = spec.build(nn.Linear(1, 1)).param_groups
    assert [group["param_names"] for group in groups] == [["weight"], ["bias"]]
    lonely = spec.build(nn.Linear(1, 1, bias=False)).param_groups
    assert [len(group["params"]) for group in lonely] == [1, 0]


# --- features


@each_feature
def test_a_feature_shows_in_the_optimizer_or_in_what_is_saved(name):
    (case,) = list(resume_covering(features=[name]))[-1:]
    assert case.features == (name,)
    subject = Subject.of(case)
    assert case.optimizer is not None
    simple = OptimizerSpec(case.optimizer.factory, {"lr": 0.125})
    plain = replace(case, optimizer=simple, module=ModuleSpec("Linear", case.module.kwargs))
    saved = save_run(case, subject, case.optimizer.build).payload
    usual = save_run(plain, Subject.of(plain), simple.build).payload
    # What is frozen since is frozen in the module, and the file does not say so.
    frozen = any(not p.requires_grad for p in subject.fresh.parameters())
    assert shape_of(saved) != shape_of(usual) or (frozen and name == "frozen-since")


def shape_of(value: Any) -> Any:
    """A payload with each tensor as its kind."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items() if key != "model"}
    if isinstance(value, list):
        return [shape_of(item) for item in value]
    return (value.dtype, value.shape) if isinstance(value, torch.Tensor) else value


def saved_with(**changes: Any) -> dict[str, Any]:
    case = Case(
        ModuleSpec("Linear", {"in_features": 2, "out_features": 2}),
        optimizer=replace(SIMPLEST, **changes),
    )
    assert case.optimizer is not None
    return save_run(case, Subject.of(case), case.optimizer.build).payload


def test_partial_state_is_that_of_every_other_parameter():
    assert list(saved_with(trained="some")["optimizer"]["state"]) == [1]


def test_stateless_is_without_state_but_with_settings():
    saved = saved_with(trained="none")["optimizer"]
    assert saved["state"] == {}
    assert saved["param_groups"][0]["lr"] == 0.0625


def test_state_dtype_leaves_the_counts():
    state = saved_with(state_dtype="bfloat16")["optimizer"]["state"][0]
    assert (state["exp_avg"].dtype, state["step"].dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_scheduler_has_set_the_learning_rate_and_is_in_the_file(scheduler):
    saved = saved_with(scheduler=scheduler)
    (group,) = saved["optimizer"]["param_groups"]
    assert group["lr"] != 0.125
    assert "initial_lr" in group
    assert saved["scheduler"]["last_epoch"] == 2


def test_frozen_parameters_have_a_place_and_no_state():
    (case,) = list(resume_covering(features=["partly-frozen"]))[-1:]
    assert case.optimizer is not None
    saved = save_run(case, Subject.of(case), case.optimizer.build).payload["optimizer"]
    assert saved["param_groups"][0]["params"] == [0, 1]
    assert list(saved["state"]) == [0]


def test_what_was_captured_is_stepped_on_a_cpu_and_stays_as_it_was():
    module = nn.Linear(1, 1)
    optimizer = OptimizerSpec("AdamW", {"lr": 0.125, "capturable": True}).build(module)
    take_step(optimizer, observe(module), 0)
    assert optimizer.param_groups[0]["capturable"] is True
    assert len(optimizer.state) == 2


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (SIMPLEST, "built-before-load"),
        (OptimizerSpec("LBFGS"), "groups"),
        (OptimizerSpec("LBFGS"), "empty-group"),
        (OptimizerSpec("RAdam"), "fused"),
        (OptimizerSpec("Muon"), "foreach"),
        (OptimizerSpec("SGD"), "capturable"),
        (OptimizerSpec("SGD", {"foreach": True}), "fused"),
        (OptimizerSpec("SGD", {"fused": True}), "foreach"),
        (OptimizerSpec("Adam", {"foreach": True}), "tensor-lr"),
        (OptimizerSpec("SGD", groups=(GroupSpec(empty=True),)), "named-parameters"),
    ],
)
def test_a_feature_is_not_put_where_torch_refuses_it(spec, name):
    assert with_feature(name, spec) is None


# --- the strategy

FEW = settings(max_examples=400, database=None)


def smallest(condition, **chosen):
    return find(
        optimizers(**chosen), condition, settings=settings(max_examples=2000, database=None)
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_class_is_reached_and_shrinks_to_its_plainest(name):
    found = smallest(lambda spec: spec.factory == name)
    assert found == OptimizerSpec(name, OPTIMIZERS[name].kwargs(first))


def test_the_smallest_of_all_is_plain_adamw():
    assert smallest(lambda spec: True) == SIMPLEST


@each_feature
def test_every_feature_is_reached_alone(name):
    expected = with_feature(name)
    assert smallest(lambda spec: spec == expected, features=[name]) == expected


def test_what_is_chosen_is_kept_to():
    strategy = optimizers(classes=["SGD", "Rprop"], features=[])
    assert repr(strategy) == "optimizers(classes=['SGD', 'Rprop'], features=[])"
    assert find(strategy, lambda spec: True) == OptimizerSpec("SGD", {"lr": 0.125})
    assert smallest(lambda s: s.factory == "Rprop", classes=["SGD", "Rprop"], features=[])
    with pytest.raises(NoSuchExample):
        find(strategy, lambda s: s.factory not in ("SGD", "Rprop") or s.groups, settings=FEW)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["Adamant"]}, "classes: there is no 'Adamant'; there are: AdamW, SGD"),
        ({"classes": []}, "classes=.*: expected a list of names"),
        ({"classes": "SGD"}, "classes='SGD': expected a list of names"),
        ({"features": ["tied"]}, "features: there is no 'tied'; there are: built-before-load"),
        ({"features": "groups"}, "features='groups': expected a list of names"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        optimizers(**arguments)


# --- cases for resumers


def test_the_covering_set_has_every_class_and_every_feature_alone():
    covered = list(resume_covering())
    assert {case.optimizer.factory for case in covered} == set(OPTIMIZERS)
    alone = {case.features for case in covered}
    assert {(name,) for name in OF_OPTIMIZERS} <= alone
    assert covered[0].optimizer == SIMPLEST


def test_the_covering_set_has_every_class_with_every_feature_that_it_takes():
    reached = {
        (case.optimizer.factory, name) for case in resume_covering() for name in case.features
    }
    for name, entry in OPTIMIZERS.items():
        simplest = OptimizerSpec(name, entry.kwargs(first))
        taken = {feature for feature in OF_OPTIMIZERS if with_feature(feature, simplest)}
        assert taken <= {feature for factory, feature in reached if factory == name}
        assert len(taken) >= 6


def test_features_of_one_fixed_case_leave_each_other_what_they_are():
    for case in resume_covering():
        trained = {"partial-state", "stateless"}.intersection(case.features)
        assert len(trained) <= 1
        wanted = {"partial-state": "some", "stateless": "none"}
        assert case.optimizer.trained == ("".join(wanted[name] for name in trained) or "all")
        if {"groups", "empty-group"} <= {*case.features}:
            assert {group.empty for group in case.optimizer.groups} == {True, False}


def test_features_choose_among_optimizers_too():
    covered = list(resume_covering(features=["groups"]))
    assert {case.features for case in covered} == {("groups",)}
    assert {case.optimizer.factory for case in covered} == {"AdamW"}
    left = list(resume_covering(without=["groups"]))
    assert not any("groups" in case.features for case in left)


def test_a_check_of_a_loader_has_no_optimizer():
    names = set(OF_OPTIMIZERS)
    assert not any(case.optimizer or names & set(case.features) for case in covering())
    with pytest.raises(NoSuchExample):
        find(random_cases(), lambda c: c.optimizer or names & set(c.features), settings=FEW)


def test_random_cases_shrink_to_the_plainest_optimizer():
    found = find(resume_cases(), lambda case: "scalar" in case.features, settings=FEW)
    assert found.features == ("scalar",)
    assert found.optimizer == SIMPLEST
    found = find(resume_cases(), lambda case: case.optimizer.factory == "Muon", settings=FEW)
    assert found.features == ()


# --- check_resume


def tried(resume=eager_resume, **chosen):
    seen: list[Case] = []
    examine = resuming.examine_resume
    checker = Checker(Defaults(seed=0, strict=True, isolation="off"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pytest_ckptload.checks.checker.examine_resume",
            lambda case, *rest: (seen.append(case), examine(case, *rest))[1],
        )
        checker.check_resume(resume, allow=AS_TORCH_DOES, **chosen)
    return seen


def test_optimizers_are_drawn_where_none_is_given():
    seen = tried(max_examples=20)
    assert {case.optimizer.factory for case in seen} == set(OPTIMIZERS)
    assert {name for case in seen for name in case.features} >= set(OF_OPTIMIZERS)


def test_an_optimizer_that_is_given_is_the_only_one():
    made = []

    def make(module):
        made.append(torch.optim.SGD(module.parameters(), lr=0.5))
        return made[-1]

    seen = tried(make_optimizer=make, features=["scalar"], max_examples=5)
    assert {case.optimizer for case in seen} == {None}
    # Two to try it out; for the file, for the eager twin, for the resumer, which resumes plain
    # cases twice.
    assert len(made) == 2 + 3 * len(seen) + sum(not case.features for case in seen)


def test_with_a_model_of_ones_own_optimizers_are_drawn_as_well():
    seen = tried(build=lambda: nn.Linear(2, 2), max_examples=10)
    assert {case.optimizer.factory for case in seen} == set(OPTIMIZERS)
    assert {case.module for case in seen} == {None}


@pytest.mark.parametrize("make", [torch.optim.LBFGS, torch.optim.SparseAdam])
def test_an_optimizer_of_ones_own_is_stepped_as_its_class_wants(make):
    checker = Checker(Defaults(strict=True, isolation="off", max_examples=0))
    chosen = {"build": lambda: nn.Linear(2, 2), "make_optimizer": lambda m: make(m.parameters())}
    assert checker.check_resume(eager_resume, **chosen).examples


def test_a_feature_of_optimizers_is_refused_where_none_is_generated():
    message = "feature 'groups' is one of optimizers, which check_resume generates, without"
    with pytest.raises(ValueError, match=message):
        Checker().check(eager, features=["groups"])
    with pytest.raises(ValueError, match=message):
        Checker().check_resume(eager_resume, features=["groups"], make_optimizer=torch.optim.SGD)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_eager_resuming_is_never_accused(seed, monkeypatch):
    failed = []

    def watched(*arguments, **named):
        try:
            return take_step(*arguments, **named)
        except Exception as error:
            failed.append(error)
            raise

    monkeypatch.setattr(continuing, "take_step", watched)
    defaults = Defaults(seed=seed, strict=True, isolation="off", max_examples=40)
    checker, unordered = Checker(defaults), "reordered-parameters"
    report = checker.check_resume(eager_resume, allow=AS_TORCH_DOES, without=[unordered])
    assert report.advice == ()
    assert report.examples > 150
    # LBFGS over several dtypes cannot step once its state was loaded.
    assert len(failed) <= 2
    # Nor can what was given the state of a parameter of another shape.
    assert checker.check_resume(eager_resume, allow=AS_TORCH_DOES, features=[unordered]).examples


def loses_state_that_is_no_tensor(build, make_optimizer, path, device):
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    for state in optimizer.state.values():
        for key in [key for key, value in state.items() if isinstance(value, list)]:
            state[key] = []
    return module, optimizer


def takes_the_first_group_for_all(build, make_optimizer, path, device):
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    for group in optimizer.param_groups:
        group["lr"] = optimizer.param_groups[0]["lr"]
    return module, optimizer


def wants_a_step_of_every_parameter(build, make_optimizer, path, device):
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    for parameter in held(optimizer):
        optimizer.state[parameter].setdefault("step", torch.tensor(1.0))
    return module, optimizer


@pytest.mark.parametrize(
    ("resume", "features", "code"),
    [
        (takes_the_first_group_for_all, ["groups"], "CKPT504"),
        (wants_a_step_of_every_parameter, ["partial-state"], "CKPT508"),
        (loses_state_that_is_no_tensor, [], "CKPT505"),
    ],
)
def test_what_one_optimizer_alone_shows_is_found(resume, features, code):
    checker = Checker(Defaults(isolation="off", max_examples=0))
    with pytest.raises(CheckpointMismatch) as caught:
        checker.check_resume(resume, features=features)
    assert caught.value.findings[0].code == code
    plain = Case(ModuleSpec("Linear", {"in_features": 2, "out_features": 2}), optimizer=SIMPLEST)
    assert examine_resume(plain, resume, None, CPU).findings == ()
