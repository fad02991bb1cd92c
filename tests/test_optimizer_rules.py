"""What rules of optimizers accuse, at its edges, and what they let pass: resumers that do their job
in other ways than torch's own.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pytest_ckptload.case import Case, ModuleSpec, OptimizerSpec
from pytest_ckptload.examine.resuming import examine_resume
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.examine.trials.reloading import changed_by_loading
from pytest_ckptload.faults.resumed import Wrapper, read_payload
from pytest_ckptload.observe import observe
from pytest_ckptload.observe.state import shared_state
from pytest_ckptload.recipes import eager_resume, mmap_meta_assign_resume

CPU = torch.device("cpu")
LINEAR = ModuleSpec("Linear", {"in_features": 2, "out_features": 2})
ADAMW = OptimizerSpec("AdamW", {"lr": 0.125})
HEAVY = OptimizerSpec("SGD", {"lr": 0.125, "momentum": 0.5})


def findings(resume, optimizer=ADAMW, make_optimizer=None):
    case = Case(LINEAR, optimizer=optimizer)
    return examine_resume(case, resume, make_optimizer, CPU).findings


def codes(resume, optimizer=ADAMW, make_optimizer=None):
    return [finding.code for finding in findings(resume, optimizer, make_optimizer)]


def then(change):
    """Resume eagerly, and change the optimizer."""

    def resume(*arguments):
        module, optimizer = eager_resume(*arguments)
        return module, change(optimizer) or optimizer

    return resume


def setting(**settings):
    return then(lambda optimizer: [group.update(settings) for group in optimizer.param_groups][:0])


# --- groups


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "decay"},
        {"initial_lr": 0.0625},
        {"foreach": False},
        {"capturable": False},
        {"betas": [0.9, 0.999]},
        {"weight_decay": 0.01 + 0.0},
        {"maximize": 0},
    ],
)
def test_settings_that_say_the_same_or_more_pass(settings):
    assert codes(setting(**settings)) == []


@pytest.mark.parametrize(
    ("settings", "evidence"),
    [
        ({"lr": 0.125}, "'lr' is 0.125, expected 0.0625"),
        ({"lr": torch.tensor(0.0625)}, "'lr' is tensor(0.0625), expected 0.0625"),
        ({"lr": math.nan}, "'lr' is nan, expected 0.0625"),
        ({"betas": (0.5, 0.999)}, "'betas' is (0.5, 0.999), expected (0.9, 0.999)"),
        ({"betas": (0.9,)}, "'betas' is (0.9,), expected (0.9, 0.999)"),
        ({"amsgrad": None}, "'amsgrad' is None, expected False"),
    ],
)
def test_settings_that_say_something_else_do_not(settings, evidence):
    (finding,) = findings(setting(**settings))
    assert (finding.code, finding.place) == ("CKPT504", "param_groups[0]")
    assert finding.evidence == evidence
    assert finding.names == ("weight", "bias")


def test_settings_that_are_no_numbers_are_no_ones_business():
    class Odd:
        def __eq__(self, other):
            raise AssertionError("not to be compared")

        def __hash__(self):
            return 1

    def make_optimizer(module):
        return torch.optim.SGD(module.parameters(), lr=math.nan, weight_decay=0.0)

    def sgd(module):
        optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
        optimizer.param_groups[0]["limit"] = math.nan
        return optimizer

    assert codes(setting(odd=Odd()), None, sgd) == []
    assert codes(setting(limit=1.0), None, sgd) == ["CKPT504"]


def test_a_learning_rate_that_is_a_tensor_is_to_be_one():
    tensor = OptimizerSpec("SGD", {"lr": 0.125}, tensor_lr=True)
    assert codes(eager_resume, tensor) == []
    assert codes(setting(lr=0.0625), tensor) == ["CKPT504"]
    assert codes(setting(lr=torch.tensor(0.0625)), tensor) == []
    assert codes(setting(lr=torch.tensor(0.0625, dtype=torch.float64)), tensor) == ["CKPT504"]


def test_one_group_more_is_found_and_so_are_parameters_of_other_groups():
    def one_more(optimizer):
        optimizer.param_groups.append({**optimizer.param_groups[0], "params": []})

    def split(optimizer):
        (group,) = optimizer.param_groups
        last = group["params"].pop()
        optimizer.param_groups.append({**group, "params": [last]})

    for change in (one_more, split):
        (finding,) = findings(then(change))
        assert (finding.code, finding.place) == ("CKPT504", "param_groups")
        assert finding.evidence == "2 groups, expected 1"


# --- state


def moments(optimizer, change):
    for state in optimizer.state.values():
        for key, value in state.items():
            if key != "step":
                state[key] = change(value)


def test_state_on_another_device_is_found():
    resume = then(lambda optimizer: moments(optimizer, lambda t: t.to("meta")))
    found = findings(resume)
    assert {finding.code for finding in found} == {"CKPT506"}
    assert found[0].evidence == "torch.float32 on meta, expected torch.float32 on cpu"


def as_saved(build, make_optimizer, path, device):
    """Keeps the dtypes that the state has in the file."""
    module, optimizer = eager_resume(build, make_optimizer, path, device)
    saved = read_payload(path, device)["optimizer"]["state"]
    for number, parameter in enumerate(optimizer.param_groups[0]["params"]):
        optimizer.state[parameter] = {k: v.clone() for k, v in saved[number].items()}
    return module, optimizer


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_state_may_keep_the_dtype_of_the_file(dtype):
    optimizer = OptimizerSpec(HEAVY.factory, HEAVY.kwargs, state_dtype=dtype)
    assert codes(as_saved, optimizer) == []
    assert codes(eager_resume, optimizer) == ["CKPT510", "CKPT510"]


def test_and_is_then_to_have_the_bits_of_the_file():
    def rounded(*arguments):
        module, optimizer = as_saved(*arguments)
        moments(optimizer, lambda t: t.float().double())
        return module, optimizer

    optimizer = OptimizerSpec(HEAVY.factory, HEAVY.kwargs, state_dtype="float64")
    assert codes(rounded, optimizer) == []  # what was float32 before it was saved loses nothing
    wrong = then(lambda optimizer: moments(optimizer, lambda t: t.double() * 2))
    found = findings(wrong, optimizer)
    assert [finding.code for finding in found] == ["CKPT505", "CKPT505"]
    assert found[0].evidence.startswith("4 of 4 elements differ")
    other = then(lambda optimizer: moments(optimizer, lambda t: t.half()))
    assert codes(other, optimizer) == ["CKPT506", "CKPT506"]


def test_a_history_in_the_dtypes_of_the_file_may_be_kept_as_well():
    """State that is a list of tensors, which torch casts one by one."""

    def kept(build, make_optimizer, path, device):
        module, optimizer = eager_resume(build, make_optimizer, path, device)
        saved = read_payload(path, device)["optimizer"]["state"]
        optimizer.state[optimizer.param_groups[0]["params"][0]] = saved[0]
        return module, optimizer

    lbfgs = OptimizerSpec("LBFGS", {"lr": 0.125, "max_iter": 4}, state_dtype="float64")
    assert set(codes(eager_resume, lbfgs)) == {"CKPT510"}
    assert codes(kept, lbfgs) == []


def test_a_count_that_is_a_number_in_the_file_may_stay_one():
    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]["count"] = self.state[parameter].get("count", 0) + 1
            return super().step(closure)

        def __setstate__(self, state):
            super().__setstate__(state)
            for kept in self.state.values():
                kept["count"] = torch.tensor(kept["count"])

    def make(module):
        return Counting(module.parameters(), lr=0.5)

    def as_a_number(*arguments):
        module, optimizer = eager_resume(*arguments)
        for kept in optimizer.state.values():
            kept["count"] = int(kept["count"])
        return module, optimizer

    assert codes(as_a_number, None, make) == []


def test_slices_of_one_buffer_are_independent():
    def flat(optimizer):
        buffer = torch.zeros(100)
        taken = 0
        for state in optimizer.state.values():
            for key, value in state.items():
                part = buffer[taken : taken + value.numel()].view(value.shape)
                state[key] = part.copy_(value)
                taken += value.numel()

    assert codes(then(flat)) == []


def test_state_over_the_memory_of_others_is_found():
    def one_for_all(optimizer):
        first, *others = optimizer.state.values()
        for state in others:
            state["step"] = first["step"]

    (finding,) = findings(then(one_for_all))
    assert finding.code == "CKPT507"
    assert (finding.place, finding.names) == ("bias step", ("bias",))
    assert finding.evidence == "has memory in common with step of weight"

    module = nn.Linear(2, 2)
    state = {"weight": {"kept": module.bias.detach()[:1], "own": torch.ones(2)}}
    assert shared_state(observe(module), state) == {("weight", "kept"): "bias"}


class OneCount(torch.optim.Optimizer):
    """An optimizer that has one count for all of its parameters, as it is meant to."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.5})
        count = torch.zeros(())
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["count"] = count

    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.sub_(group["lr"] * parameter.grad)


def test_what_the_eager_optimizer_shares_may_be_shared():
    assert codes(eager_resume, None, lambda m: OneCount(m.parameters())) == []
    assert codes(mmap_meta_assign_resume, None, lambda m: OneCount(m.parameters())) == []


def test_a_resumer_that_can_be_used_once_is_used_once():
    used = []

    def once(*arguments):
        used.append(arguments)
        if len(used) > 1:
            raise RuntimeError("used up")
        return eager_resume(*arguments)

    assert codes(once) == []
    assert len(used) == 2


def test_state_for_what_no_group_has_is_found_where_a_parameter_lacks_it():
    def keyed_anew(optimizer):
        for key in list(optimizer.state):
            optimizer.state[key.detach().clone()] = optimizer.state.pop(key)

    def something_besides(optimizer):
        optimizer.state["rounds"] = {"count": 1}
        optimizer.state[torch.zeros(1)] = {"kept": torch.zeros(1)}

    found = findings(then(keyed_anew))
    assert {finding.code for finding in found} == {"CKPT501", "CKPT505"}
    assert found[0].place == "state"
    assert codes(then(something_besides)) == []


# --- wrappers


def test_wrappers_pass_with_what_they_wrap():
    def delegating(optimizer):
        return Wrapper(optimizer, optimizer.param_groups, optimizer.state)

    class Stateless(Wrapper):
        state = None

        def __init__(self, optimizer):
            self.optimizer = optimizer
            self.param_groups = optimizer.param_groups

    assert codes(then(delegating)) == []
    assert codes(then(Stateless)) == []
    assert codes(then(delegating), OptimizerSpec("LBFGS")) == []
    assert codes(then(delegating), OptimizerSpec("SparseAdam")) == []


@pytest.mark.parametrize("settings", [{"capturable": True}, {}])
def test_a_wrapper_may_have_groups_of_its_own_over_the_same_parameters(settings):
    """As one that is an optimizer itself has them once it has loaded something."""

    def apart(optimizer):
        groups = [dict(group) for group in optimizer.param_groups]
        return Wrapper(optimizer, groups, optimizer.state)

    spec = OptimizerSpec("AdamW", {"lr": 0.125, **settings})
    assert codes(then(apart), spec) == []


def test_a_wrapper_that_steps_what_it_does_not_show_is_found():
    def other(optimizer):
        parameters = [nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]]
        inner = torch.optim.SGD(parameters, lr=0.5)
        return Wrapper(inner, optimizer.param_groups, optimizer.state)

    # Copies as master weights are: what gives them away is that no step gets to the module.
    assert set(codes(then(other))) == {"CKPT508"}


# --- the caller's state dict


def hooked(hook):
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters())
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    if hook is not None:
        optimizer.register_load_state_dict_pre_hook(hook)
    return optimizer


def in_a_copy(optimizer, state):
    return {**state, "state": {}, "param_groups": [{**g, "a": 1} for g in state["param_groups"]]}


@pytest.mark.parametrize("hook", [None, in_a_copy])
def test_loading_leaves_the_dict_as_it_was(hook):
    assert changed_by_loading(hooked(hook)) == ()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda state: state["param_groups"][0].update(a=1), "['param_groups'][0]['a']"),
        (lambda state: state["param_groups"][0].update(lr=1.0), "['param_groups'][0]['lr']"),
        (lambda state: state["param_groups"].append({}), "['param_groups']"),
        (lambda state: state["state"].pop(0), "['state'][0]"),
        (lambda state: state["state"][0].pop("step"), "['state'][0]['step']"),
        (lambda state: state["state"][1]["exp_avg"].zero_(), "['state'][1]['exp_avg']"),
    ],
)
def test_what_loading_changes_is_named_though_it_may_fail(change, place):
    def hook(optimizer, state):
        change(state)

    assert changed_by_loading(hooked(hook))[:1] == (place,)


def test_what_has_no_state_dict_is_not_asked():
    assert changed_by_loading(Wrapper(None, [], {})) == ()


def test_subjects_of_ones_own_with_state_dicts_of_their_own():
    """A state dict need not be as torch has it."""

    class Own(torch.optim.SGD):
        def state_dict(self):
            return {"mine": [group["lr"] for group in self.param_groups]}

        def load_state_dict(self, state):
            for group, lr in zip(self.param_groups, state["mine"], strict=True):
                group["lr"] = lr

    subject = Subject(lambda: nn.Linear(2, 2))
    case = Case(None)

    def make(module):
        return Own(module.parameters(), lr=1.0)

    assert examine_resume(case, eager_resume, make, CPU, subject).findings == ()
