"""``assert_optimizer_tracks``: every way not to track a module is told by name, and no right one
is accused.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_ckptload import CheckpointMismatch, assert_optimizer_tracks
from pytest_ckptload.faults.resumed import Wrapper


class Net(nn.Module):
    """Shapes of which two are alike, a frozen parameter, and a tied one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.second = nn.Linear(2, 3)
        self.tied = self.first
        self.scale = nn.Parameter(torch.ones(3), requires_grad=False)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.5)


def lines(optimizer, module):
    """The places of the message, each with its code."""
    with pytest.raises(CheckpointMismatch) as caught:
        assert_optimizer_tracks(optimizer, module)
    return [(f.code, f.place, f.names) for f in caught.value.findings], caught.value


def reload(module, assign=True):
    module.load_state_dict({k: v + 1 for k, v in module.state_dict().items()}, assign=assign)


# --- right ones


class WithScaler:
    """A wrapper as training libraries have them: the groups are those of the one inside."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)

    @property
    def param_groups(self):
        return self.optimizer.param_groups


class NoGroups:
    """Has an optimizer, and no groups of its own."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


class ByHalves:
    """Two optimizers, each with some of the parameters."""

    def __init__(self, module):
        self.optimizers = {
            "first.half": sgd(module.first.parameters()),
            "second.half": sgd(module.second.parameters()),
        }


def with_masters(module, change=0.0):
    """Steps copies in float64, as mixed precision does; ``change`` is by how much they differ."""
    optimizer = sgd(module.parameters())
    masters = [nn.Parameter(p.detach().double() + change) for p in module.parameters()]
    return Wrapper(sgd(masters), optimizer.param_groups, {})


RIGHT = {
    "all": lambda m: sgd(m.parameters()),
    "trainable": lambda m: sgd(p for p in m.parameters() if p.requires_grad),
    "groups": lambda m: sgd([{"params": m.second.parameters()}, {"params": m.first.parameters()}]),
    "empty-group": lambda m: sgd([{"params": m.parameters()}, {"params": []}]),
    "wrapper": lambda m: WithScaler(sgd(m.parameters())),
    "wrapped-twice": lambda m: WithScaler(WithScaler(sgd(m.parameters()))),
    "without-groups": lambda m: NoGroups(sgd(m.parameters())),
    "scheduler": lambda m: torch.optim.lr_scheduler.StepLR(sgd(m.parameters()), 1),
    "by-halves": ByHalves,
    "masters": with_masters,
}


@pytest.mark.parametrize("make", RIGHT.values(), ids=[*RIGHT])
def test_what_tracks_its_module_passes(make):
    module = Net()
    optimizer = make(module)
    assert_optimizer_tracks(optimizer, module)
    reload(module, assign=False)


def test_stepping_and_loading_by_copy_change_nothing():
    module = Net()
    optimizer = torch.optim.Adam(module.parameters())
    reload(module, assign=False)
    module.first(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert_optimizer_tracks(optimizer, module)


# --- wrong ones


def test_stale_parameters_are_named_in_groups_of_any_order():
    module = Net()
    optimizer = sgd([{"params": module.second.parameters()}, {"params": module.first.parameters()}])
    reload(module)
    found, _ = lines(optimizer, module)
    stale = {place: names for code, place, names in found if code == "CKPT501"}
    assert set(stale) == {f"param_groups[{g}]['params'][{p}]" for g in (0, 1) for p in (0, 1)}
    # By shape where no more is known.
    assert {name for names in stale.values() for name in names} == {
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
    }
    assert {code for code, *_ in found} <= {"CKPT501", "CKPT502"}


@pytest.mark.skipif(torch.__version__ < "2.6", reason="groups have no names")
def test_stale_parameters_have_the_names_that_the_optimizer_knows():
    module = Net()
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    optimizer = sgd(reversed(named))
    reload(module)
    found, _ = lines(optimizer, module)
    stale = [names for code, _, names in found if code == "CKPT501"]
    assert stale == [("second.bias",), ("second.weight",), ("first.bias",), ("first.weight",)]


def test_what_is_left_on_meta_is_said_to_be_there():
    with torch.device("meta"):
        module = Net()
    optimizer = sgd(module.parameters())
    module.load_state_dict(Net().state_dict(), assign=True)
    _, error = lines(optimizer, module)
    report = " ".join(error.report.split())
    assert "refers to a tensor of shape (3, 2) on meta that is not in the module" in report


def test_missing_and_doubled_ones_are_named():
    module = Net()
    found, _ = lines(sgd(module.first.parameters()), module)
    assert found == [("CKPT502", f"second.{n}", (f"second.{n}",)) for n in ("weight", "bias")]
    optimizer = sgd(module.parameters())
    optimizer.param_groups[0]["params"].append(module.second.bias)
    found, error = lines(optimizer, module)
    assert [code for code, *_ in found] == ["CKPT503"]
    assert "second.bias: stands 2 times" in error.report


@pytest.mark.parametrize("wrap", [WithScaler, NoGroups])
def test_a_wrapper_is_looked_into(wrap):
    module = Net()
    optimizer = wrap(sgd(module.parameters()))
    reload(module)
    found, _ = lines(optimizer, module)
    assert found[0][0] == "CKPT501"


def test_a_frozen_one_is_not_taken_for_one_that_trains():
    module = Net()
    optimizer = sgd(module.parameters())
    reload(module)
    found, _ = lines(optimizer, module)
    names = [name for code, _, (name,) in found if code == "CKPT501"]
    assert names == ["scale", "first.weight", "first.bias", "second.weight", "second.bias"]


def test_a_scheduler_says_by_which_way_it_refers():
    module = Net()
    scheduler = torch.optim.lr_scheduler.StepLR(sgd(module.parameters()), 1)
    reload(module)
    found, _ = lines(scheduler, module)
    assert found[0][1] == "optimizer.param_groups[0]['params'][0]"


def test_an_optimizer_inside_may_be_stale_where_the_wrapper_is_not():
    module = Net()
    inner = sgd(module.parameters())
    reload(module)
    found, _ = lines(Wrapper(inner, sgd(module.parameters()).param_groups, {}), module)
    assert {code for code, *_ in found} == {"CKPT501"}
    assert found[0][1:] == ("optimizer.param_groups[0]['params'][0]", ("scale",))


def test_other_parameters_over_the_same_memory_are_stale_inside_as_well():
    module = Net()
    others = [nn.Parameter(p.data, p.requires_grad) for p in module.parameters()]
    found, _ = lines(Wrapper(sgd(others), sgd(module.parameters()).param_groups, {}), module)
    assert {code for code, *_ in found} == {"CKPT501"}


def test_copies_inside_are_to_have_the_values_of_now():
    """Master weights that were made before the load, and not made anew."""
    module = Net()
    found, _ = lines(with_masters(module, change=1.0), module)
    assert {code for code, *_ in found} == {"CKPT501"}


def test_half_of_what_several_optimizers_have_may_be_stale():
    module = Net()
    optimizer = ByHalves(module)
    module.second.load_state_dict(nn.Linear(2, 3).state_dict(), assign=True)
    found, _ = lines(optimizer, module)
    assert {names for code, _, names in found if code == "CKPT501"} == {
        ("second.weight",),
        ("second.bias",),
    }


# --- what is no optimizer of anything


def test_an_optimizer_made_from_nothing_is_told_so():
    module = Net()
    parameters = iter(module.parameters())
    list(parameters)  # used up
    _, error = lines(sgd([{"params": parameters}]), module)
    assert "nor to any" in error.report
    assert "a generator that was used up" in " ".join(error.report.split())


def test_an_optimizer_of_plain_tensors_is_told_so():
    module = Net()
    _, error = lines(sgd(module.state_dict().values()), module)
    report = " ".join(error.report.split())
    assert "refers to a plain tensor, no Parameter, of shape" in report
    assert "made from tensors that are no parameters: those of a state dict" in report


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (torch.amp.GradScaler("cpu", enabled=False), "a GradScaler"),
        (torch.optim.SGD, "SGD"),
        (None, "a NoneType"),
        ([], "a list"),
        (Net(), "a Net"),
    ],
)
def test_what_is_no_optimizer_is_refused(thing, name):
    message = f"^{name} has no param_groups and holds no optimizer: it is none$"
    with pytest.raises(TypeError, match=message):
        assert_optimizer_tracks(thing, Net())


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"expected an nn\.Module, not a list"):
        assert_optimizer_tracks(sgd(Net().parameters()), [Net()])


# --- the line to move


def fix_of(error):
    return error.value.findings[0].fix


def test_the_line_to_move_is_named():
    module = Net()
    optimizer = sgd(module.parameters())
    module.load_state_dict(Net().state_dict(), assign=True)
    print(module.training)
    with pytest.raises(CheckpointMismatch) as error:
        assert_optimizer_tracks(optimizer, module)
    fix = fix_of(error)
    assert fix.startswith("In test_tracking.py, line ")
    assert "`optimizer = sgd(module.parameters())`, is likely to be moved behind line" in fix
    assert "`module.load_state_dict(Net().state_dict(), assign=True)`." in fix
    # On one line in the message, whatever its width.
    assert " ".join(fix.split()) in " ".join(error.value.report.split())


def test_the_line_behind_it_may_be_any_that_is_handed_the_module():
    self = NoGroups(None)
    self.module = Net()
    self.optimizer, _ = sgd(self.module.parameters()), 1
    reload(module=self.module)
    with pytest.raises(CheckpointMismatch) as error:
        assert_optimizer_tracks(module=self.module, optimizer=self.optimizer)
    assert "is likely to be moved behind" in fix_of(error)
    assert fix_of(error).endswith("`reload(module=self.module)`.")


def test_a_part_that_is_set_is_such_a_line():
    module = Net()
    optimizer = sgd(module.parameters())
    module.second = nn.Linear(2, 4)
    with pytest.raises(CheckpointMismatch) as error:
        assert_optimizer_tracks(optimizer, module)
    assert fix_of(error).endswith("`module.second = nn.Linear(2, 4)`.")


@pytest.fixture
def stale():
    module = Net()
    optimizer = sgd(module.parameters())
    reload(module)
    return module, optimizer


def test_where_it_is_made_elsewhere_nothing_is_guessed(stale):
    module, optimizer = stale
    with pytest.raises(CheckpointMismatch) as error:
        assert_optimizer_tracks(optimizer, module)
    assert fix_of(error).startswith("Make the optimizer after loading")


def test_without_source_nothing_is_guessed(stale):
    code = compile("assert_optimizer_tracks(optimizer, module)", "<no file>", "exec")
    module, optimizer = stale
    names = {**globals(), "optimizer": optimizer, "module": module}
    with pytest.raises(CheckpointMismatch) as error:
        exec(code, names)
    assert fix_of(error).startswith("Make the optimizer after loading")
