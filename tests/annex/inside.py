"""What is shown on the second device: run as ``pytest -p annex tests/annex/inside.py`` by
``tests/test_devices.py``.
"""

from __future__ import annotations

import functools

import pytest
import torch
from faulty import check_sibling, found
from torch import nn

import annex
from pytest_ckptload.case import Case, CheckpointSpec, ModuleSpec
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.faults import FAULTS
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.recipes import eager, eager_resume, mmap_meta_assign
from pytest_ckptload.recipes.eager import built

ELSEWHERE = [fault for fault in FAULTS.values() if fault.elsewhere]


@pytest.fixture(autouse=True)
def well_behaved():
    yield
    annex.backend.misbehave("", 0)
    annex.backend.limit(0)
    annex.backend.lose(False)


def check(loader, device="annex:1", **arguments):
    arguments = {"max_examples": 3, "features": ["frozen", "scalar", "tied"], **arguments}
    return Checker(Defaults(seed=0)).check(loader, devices=[device], **arguments)


def misbehaving(how, at=0):
    """The eager recipe on a device that does this to copies, during the load under test alone."""

    def load(build, path, device):
        annex.backend.misbehave(how, at)
        try:
            return eager(build, path, device)
        finally:
            annex.backend.misbehave("", 0)

    return load


@pytest.mark.parametrize("fault", ELSEWHERE, ids=lambda f: f"{f.code}-{f.name}")
def test_a_fault_of_devices_is_caught(fault):
    limits = {"features": None, "max_examples": 0, "devices": ("annex:1",)}
    error = found(fault, hasty=(), shrink=False, **limits)
    assert error is not None
    assert fault.code in {finding.code for finding in error.findings}


@functools.cache
def accept(sibling):
    """Several faults have one sibling, which is tried once."""
    fault = next(fault for fault in ELSEWHERE if fault.sibling is sibling)
    shown = {name for f in ELSEWHERE if f.sibling is sibling for name in f.features}
    features = ("frozen", "scalar", *sorted(shown))
    return check_sibling(fault, devices=("annex:1",), features=features, max_examples=10).examples


@pytest.mark.parametrize("fault", ELSEWHERE, ids=lambda f: f"{f.code}-{f.name}")
def test_its_sibling_is_not_accused(fault):
    assert accept(fault.sibling) > 12


def test_there_are_ten_of_them():
    assert len(ELSEWHERE) >= 10


@pytest.mark.parametrize(
    ("how", "code"),
    [("flip-bit", "CKPT101"), ("lose-negative-zero", "CKPT103"), ("reorder", "CKPT101")],
)
def test_a_device_that_spoils_what_is_copied_to_it(how, code):
    with pytest.raises(CheckpointMismatch) as caught:
        check(misbehaving(how), build=lambda: nn.Linear(2, 2), features=None)
    assert code in {finding.code for finding in caught.value.findings}


def test_a_copy_that_fails_is_the_loader_s_error():
    with pytest.raises(CheckpointMismatch, match=r"CKPT803[\s\S]*annex: copy 1 failed"):
        check(misbehaving("fail", 1))


def test_what_a_device_does_to_every_load_is_found_in_eager_loading_too():
    """What the file holds is known without loading it."""
    annex.backend.misbehave("flip-bit", 0)
    with pytest.raises(CheckpointMismatch, match="CKPT101 bits-differ"):
        check(eager)


class Plain(torch.optim.Optimizer):
    """Steps by the gradient alone."""

    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.add_(parameter.grad, alpha=-group["lr"])


@pytest.mark.parametrize("resuming", [False, True])
def test_what_a_device_computes_otherwise_each_time_is_no_finding(resuming, monkeypatch):
    exact, times = torch.Tensor.add_, iter(range(10**9))

    def noisy(self, other, *, alpha=1):
        exact(self, other, alpha=alpha)
        return exact(self, next(times)) if self.device.type == "annex" else self

    monkeypatch.setattr(torch.Tensor, "add_", noisy)
    arguments = {"features": ["scalar"], "max_examples": 0, "devices": ["annex:1"]}
    checker = Checker(Defaults(seed=0))
    if resuming:
        made = {"make_optimizer": lambda module: Plain(module.parameters(), {"lr": 0.5})}
        report = checker.check_resume(eager_resume, **arguments, **made)
    else:
        report = checker.check(eager, **arguments)
    note = "not judged on annex:1: CKPT508, where eager loading differs from itself"
    assert note in report.notes


def test_a_step_that_is_wrong_each_time_is_found():
    fault = FAULTS["loads_beside_the_optimizer_inside"]
    assert found(fault, hasty=(), shrink=False, devices=("annex:1",), max_examples=0)


def named(form):
    """A loader that says to ``torch.load`` in this form which device it wants."""

    def load(build, path, device):
        payload = torch.load(path, map_location=form(device), weights_only=True, mmap=True)
        module = built(build, device)
        module.load_state_dict(payload, assign=False)
        return module

    return load


@pytest.mark.parametrize(
    "form",
    [
        str,
        lambda device: device,
        lambda device: {"cpu": str(device)},
        lambda device: lambda storage, tag: storage.to(device=device),
        lambda device: "cpu",
    ],
    ids=["string", "device", "dict", "callable", "cpu"],
)
@pytest.mark.parametrize("index", [0, 1])
def test_every_way_to_say_where(form, index):
    check(named(form), f"annex:{index}")


def moved_by_name(build, path, device):
    """Build on the CPU, load there, and move each tensor, ties kept."""
    module = eager(build, path, torch.device("cpu"))
    made = {}

    def there(tensor):
        if id(tensor) not in made:
            moved = tensor.detach().to(device, non_blocking=True)
            if isinstance(tensor, nn.Parameter):
                moved = nn.Parameter(moved, requires_grad=tensor.requires_grad)
            made[id(tensor)] = moved, tensor
        return made[id(tensor)][0]

    for part in module.modules():
        for held in (part._parameters, part._buffers):
            held.update({name: t if t is None else there(t) for name, t in held.items()})
    return module


@pytest.mark.parametrize("loader", [eager, mmap_meta_assign, moved_by_name])
def test_built_there_or_on_meta_or_moved(loader):
    # Assigning unties, and moving by name knows no attributes: which is not the question here.
    check(loader, features=["frozen", "scalar", "buffer-scalar", "mixed-dtype"])


def test_buffers_that_moving_unties_are_let_pass():
    def load(build, path, device):
        module = eager(build, path, torch.device("cpu"))
        return module.to(device)

    check(load, features=["tied-buffer", "buffer-computed", "buffer-nonpersistent"])


def test_ambient_devices_do_not_matter_to_the_eager_recipe():
    check(eager, build=lambda: nn.Linear(2, 2), features=None, promises=["ambient"])
    check(eager, features=["tied-buffer", "plain-attribute"], promises=["ambient"])


def test_a_loader_that_follows_the_ambient_device_breaks_the_promise():
    def load(build, path, device):
        module = build()
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return module.to(device)

    with pytest.raises(CheckpointMismatch, match=r"CKPT905 default-device[\s\S]*meta"):
        check(load, build=lambda: nn.Linear(2, 2), features=None, promises=["ambient"])
    check(load, build=lambda: nn.Linear(2, 2), features=None)


class TwoDevices(nn.Module):
    """One half on each index, wherever it is built."""

    def __init__(self):
        super().__init__()
        self.front = nn.Linear(2, 2, device="annex:0")
        self.back = nn.Linear(2, 2, device="annex:1")


def test_a_module_over_two_devices_stays_there():
    def load(build, path, device):
        module = build()
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return module

    def collapses(build, path, device):
        return load(build, path, device).to("annex:0")

    check(load, build=TwoDevices, features=None)
    with pytest.raises(CheckpointMismatch, match="CKPT205 device-changed"):
        check(collapses, build=TwoDevices, features=None)


@pytest.mark.parametrize("tag", ["annex:0", "annex:7", "cuda:0"])
@pytest.mark.parametrize("loader", [eager, mmap_meta_assign])
def test_a_file_from_another_device(tag, loader, tmp_path):
    path = tmp_path / "model.pt"
    module = ModuleSpec("Linear", {"in_features": 2, "out_features": 2})
    case = Case(module, CheckpointSpec(device=tag))
    case.save(path)
    loaded = loader(case.build, path, torch.device("annex:1"))
    assert {p.device for p in loaded.parameters()} == {torch.device("annex:1")}
    assert torch.equal(loaded.weight.cpu(), case.state_dict()["weight"])


def test_memory_that_runs_out_is_told():
    def load(build, path, device):
        annex.backend.limit(8)
        try:
            return eager(build, path, device)
        finally:
            annex.backend.limit(0)

    with pytest.raises(CheckpointMismatch, match=r"CKPT803[\s\S]*annex: out of memory"):
        check(load, max_examples=0)


def test_a_device_that_is_lost_is_told_and_the_cpu_goes_on():
    def load(build, path, device):
        annex.backend.lose(device.type == "annex")
        return eager(build, path, device)

    check(load, "cpu")
    with pytest.raises(CheckpointMismatch, match=r"CKPT803[\s\S]*annex: the device was lost"):
        check(load)
    with pytest.raises(ValueError, match=r"nothing was judged.*annex: the device was lost"):
        check(load)
    annex.backend.lose(False)
    check(eager)


@pytest.mark.parametrize("error", [NotImplementedError, TypeError])
def test_what_a_device_cannot_hold_is_left_out_and_said(error, monkeypatch):
    real = torch.load

    def loading(*args, **kwargs):
        payload = real(*args, **kwargs)
        if any(getattr(value, "dtype", None) == torch.float64 for value in payload.values()):
            raise error("float64 is not for this device")
        return payload

    monkeypatch.setattr(torch, "load", loading)
    report = check(eager, features=["dtype-drift", "scalar"])
    (note,) = report.notes
    assert "not judged on annex:1" in note
    assert "float64 is not for this device" in note


def test_no_addresses_are_no_hindrance(monkeypatch):
    real = torch.Tensor.data_ptr
    monkeypatch.setattr(
        torch.Tensor, "data_ptr", lambda t: real(t) if t.device.type == "cpu" else 0
    )
    check(eager, features=["tied", "view-parameter", "views"])
    with pytest.raises(CheckpointMismatch, match="CKPT402 alias-gained"):
        check(mmap_meta_assign, features=["views"])


def test_comparison_goes_on_where_the_device_cannot_compare(monkeypatch):
    from pytest_ckptload.observe import tensors

    real = torch.equal

    def equal(left, right):
        if left.device.type != "cpu":
            raise NotImplementedError("aten::equal")
        return real(left, right)

    monkeypatch.setattr(torch, "equal", equal)
    monkeypatch.setattr(tensors, "_PIECE", 8)
    left = torch.arange(5, device="annex:0")
    assert tensors.same_bits(left, left.clone())
    right = left.clone()
    right[4] += 1
    assert not tensors.same_bits(left, right)


def test_copies_that_do_not_block_are_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    check(eager, build=lambda: nn.Linear(2, 2), features=[], max_examples=0)
    assert set(waited) == {torch.device("annex:1")}


def test_the_device_counts_what_is_copied_to_it(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(8, 8).state_dict(), path)
    annex.backend.misbehave("", 0)  # counts from here
    eager(lambda: nn.Linear(8, 8), path, torch.device("annex:0"))
    copies, copied = annex.backend.copies()
    assert copies >= 2
    assert copied >= (8 * 8 + 8) * 4
