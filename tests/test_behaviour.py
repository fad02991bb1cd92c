"""A given module is called with given inputs: what differs then, and what is no loader's doing."""

from __future__ import annotations

import itertools
import random
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.examine.trials.calls import copied
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.recipes import eager, mmap, mmap_meta_assign

# What the recipes that assign get wrong with any module.
WITHOUT = ["expanded", "parameters-saved", "views"]


class Model(nn.Module):
    """All that a call depends on: buffers, a mode, random numbers, and a number."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(100, 100), nn.Dropout(0.5), nn.BatchNorm1d(100))
        self.gain = 2.0

    def forward(self, rows):
        return self.inner(rows) * self.gain


def rows():
    return torch.randn(3, 100)


def check(loader, build=Model, inputs=rows, **arguments):
    checker = Checker(Defaults(max_examples=3))
    return checker.check(loader, build=build, inputs=inputs, without=WITHOUT, **arguments)


def found(loader, *, code="CKPT901", **arguments):
    """The only finding, which has this code."""
    with pytest.raises(CheckpointMismatch) as caught:
        check(loader, **arguments)
    (finding,) = caught.value.findings
    assert finding.code == code
    return finding


@pytest.fixture
def file(tmp_path):
    torch.save(Model().state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def forgets_its_gain(build, path, device):
    module = eager(build, path, device)
    module.gain = 1.0
    return module


def drops_in_eval_mode_too(build, path, device):
    module = eager(build, path, device)
    module.inner[1].train = lambda mode=True: None
    return module


def never_drops(build, path, device):
    module = eager(build, path, device)
    module.inner[1].p = 0.0
    return module


def halves_a_gradient(build, path, device):
    module = eager(build, path, device)
    module.inner[0].bias.register_hook(lambda gradient: gradient / 2)
    return module


def in_eval_mode(build, path, device):
    return eager(build, path, device).eval()


def in_one_buffer(build, path, device):
    """All parameters lie in one piece of memory, wherever they come to lie in it."""
    module = eager(build, path, device)
    parameters = [p for p in module.parameters() if p.dtype == torch.float32]
    memory = torch.empty(1 + sum(p.numel() for p in parameters))
    start = 1
    for parameter in parameters:
        part = memory[start : start + parameter.numel()].view(parameter.shape)
        parameter.data = part.copy_(parameter.data)
        start += parameter.numel()
    return module


def test_a_number_that_decides_the_output_is_seen_with_inputs_alone(file):
    finding = found(forgets_its_gain)
    assert finding.place == "the module"
    assert finding.evidence == "the output differs from that of the eager module in eval mode"
    assert found(forgets_its_gain, checkpoint=file).evidence == finding.evidence
    assert check(forgets_its_gain, inputs=None).examples > 1
    assert check(forgets_its_gain, inputs=None, checkpoint=file).examples == 1


def test_both_modes_are_tried():
    assert found(never_drops).evidence.endswith("in training mode")
    assert found(drops_in_eval_mode_too).evidence.endswith("in eval mode")


def test_gradients_are_compared(file):
    allow = {"CKPT309": "seen without calling"}
    for given in ({}, {"checkpoint": file}):
        finding = found(halves_a_gradient, code="CKPT902", allow=allow, **given)
        assert finding.place == "inner.0.bias"
        assert finding.evidence.endswith("differs from that of the eager module in eval mode")


@pytest.mark.parametrize("loader", [eager, mmap, mmap_meta_assign, in_eval_mode, in_one_buffer])
def test_who_loads_right_is_not_accused(loader, file):
    assert check(loader).examples > 1
    assert check(loader, checkpoint=file).examples == 1


class Aligned(Model):
    """What it gives depends on where its weights lie, as sums in a fast library do."""

    def forward(self, rows):
        return super().forward(rows) + self.inner[0].weight.data_ptr() % 64


def test_what_comes_of_where_tensors_lie_in_memory_is_no_fault():
    assert check(in_one_buffer, Aligned).notes == ()
    one = lambda: torch.randn(1, 100)  # noqa: E731
    assert check(in_one_buffer, lambda: nn.Linear(100, 100), one).notes == ()


@dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


class Named(Model):
    """Takes arguments by keyword, among them what is no tensor, and gives an object."""

    def forward(self, *, batch, scale):
        assert scale == 3
        return {"first": [Output(super().forward(batch["rows"]))]}


@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (Model, lambda: (torch.ones(2, 100),)),
        (Model, lambda: {"rows": torch.ones(2, 100, requires_grad=True)}),
        (Named, lambda: {"batch": {"rows": torch.ones(2, 100)}, "scale": 3}),
    ],
    ids=["tuple", "keywords", "nested"],
)
def test_inputs_and_outputs_as_people_have_them(build, inputs):
    assert check(eager, build, inputs).notes == ()
    found(forgets_its_gain, build=build, inputs=inputs)


def test_a_factory_of_inputs_need_not_give_the_same_twice():
    """Both modules have the same, whatever it draws from."""
    assert check(eager, inputs=lambda: torch.full((2, 100), random.random())).notes == ()


def test_what_one_module_does_to_its_input_does_not_reach_the_other():
    class Writes(Model):
        def forward(self, rows):
            return super().forward(rows.add_(1))

    assert check(eager, Writes).notes == ()


def test_a_module_that_does_not_give_the_same_twice_is_not_accused_and_it_is_said(file):
    class Noisy(Model):
        def forward(self, rows):
            return super().forward(rows) + random.SystemRandom().random()

    why = "(the eager module does not give the same twice)"
    assert check(forgets_its_gain, Noisy).notes == (
        f"not observed: the outputs in some cases {why}",
    )
    notes = check(forgets_its_gain, Noisy, checkpoint=file).notes
    assert f"not observed: the outputs {why}" in notes


@pytest.mark.parametrize("generator", ["python", "numpy"])
def test_modules_that_draw_from_other_generators_than_torch_are_compared(generator, monkeypatch):
    """Half of the time such a module would give the same twice: so a correct loader was accused."""
    numpy = random.Random()
    monkeypatch.setitem(
        sys.modules,
        "numpy.random",
        SimpleNamespace(seed=numpy.seed, get_state=numpy.getstate, set_state=numpy.setstate),
    )
    draw = numpy.random if generator == "numpy" else random.random

    class SkipsItsLayers(Model):
        def forward(self, rows):
            return rows * self.gain if draw() < 0.5 else super().forward(rows)

    before = random.getstate(), numpy.getstate()
    found(forgets_its_gain, build=SkipsItsLayers)
    for _ in range(5):
        assert check(mmap, SkipsItsLayers).notes == ()
    assert (random.getstate(), numpy.getstate()) == before


def test_a_module_that_counts_its_calls_is_compared():
    class Counts(Model):
        def __init__(self):
            super().__init__()
            self.calls = itertools.count()

        def forward(self, rows):
            return super().forward(rows) + next(self.calls)

    assert check(eager, Counts).notes == ()


def test_where_tensors_differ_nothing_is_called_and_it_is_said(tmp_path):
    path = tmp_path / "half.pt"
    torch.save(Model().half().state_dict(), path)
    notes = check(mmap_meta_assign, checkpoint=path).notes
    why = "its tensors are not those of the eager module"
    assert f"not observed: the outputs ({why})" in notes


def test_a_module_that_only_runs_in_one_mode():
    one = lambda: torch.ones(1, 100)  # noqa: E731  (too few to be normalised in training)
    (note,) = check(eager, inputs=one).notes
    assert note == "not observed: the outputs in some cases (the eager module raises ValueError)"
    found(forgets_its_gain, inputs=one)


def test_calling_changes_no_mode_no_buffer_and_no_file(tmp_path):
    path, kept = tmp_path / "model.pt", []
    torch.save(Model().state_dict(), path)

    def shares_the_map(build, path, device):
        with torch.serialization.set_default_mmap_options(1):  # MAP_SHARED
            state = torch.load(path, map_location=device, weights_only=True, mmap=True)
        module = build()
        module.load_state_dict(state, assign=True)
        kept.append(module.eval())
        return module

    before = path.read_bytes()
    checker = Checker(Defaults(isolation="off"))
    checker.check(shares_the_map, build=Model, inputs=rows, checkpoint=path)
    (module,) = kept
    assert not any(part.training for part in module.modules())
    assert all(p.grad is None for p in module.parameters())
    assert module.inner[2].num_batches_tracked == 0
    assert path.read_bytes() == before


def test_copies_are_undone():
    tensor = torch.ones(3)
    address = tensor.data_ptr()
    with copied([tensor]):
        assert tensor.data_ptr() != address
        tensor.zero_()
    assert tensor.data_ptr() == address
    assert tensor.tolist() == [1, 1, 1]


# --- inputs that are none


@pytest.mark.parametrize(
    ("inputs", "kind", "message"),
    [
        (torch.ones(1), TypeError, "inputs= is a callable that makes what to call modules with"),
        (lambda size: size, TypeError, "must take no arguments: missing a required"),
        (lambda: 1 // 0, ValueError, "failed: ZeroDivisionError: integer division"),
        (lambda: torch.ones(7), ValueError, "cannot be called with what inputs="),
        (lambda: {"columns": 3}, ValueError, "unexpected keyword argument 'columns'"),
    ],
    ids=["tensor", "arguments", "fails", "shape", "name"],
)
def test_inputs_that_cannot_be(inputs, kind, message):
    with pytest.raises(kind) as caught:
        check(eager, inputs=inputs)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_gives_no_tensor():
    class Silent(Model):
        def forward(self, rows):
            return "done"

    with pytest.raises(ValueError, match="Silent made a module that gives no tensor for what inp"):
        check(eager, Silent)


def test_inputs_without_a_module():
    with pytest.raises(ValueError, match="inputs= are for a module that build= makes"):
        Checker(Defaults()).check(eager, inputs=rows)
