"""Optimizers that are made before the load: stale after assigning, live after swapping, and a clear
error where swapping cannot be.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from pytest_ckptload import assert_optimizer_tracks, recipes
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.faults.resumed import made_first
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.recipes.swap import swapping

CPU = torch.device("cpu")


def assigns(*arguments):
    return made_first(*arguments, assign=True)


def swaps(*arguments):
    with swapping():
        return made_first(*arguments, assign=True)


def copies_with_swaps(*arguments):
    with swapping():
        return made_first(*arguments, assign=False)


def found(resume, **chosen):
    checker = Checker(Defaults(isolation="off", max_examples=3, seed=0))
    with pytest.raises(CheckpointMismatch) as caught:
        checker.check_resume(resume, **chosen)
    return caught.value


BEFORE = {"features": ["built-before-load"]}


def test_after_assigning_it_is_stale():
    error = found(assigns, **BEFORE)
    assert error.findings[0].code == "CKPT501"
    assert error.case.optimizer.factory == "Adagrad"


@pytest.mark.parametrize("resume", [swaps, copies_with_swaps, recipes.mmap_meta_swap_resume])
def test_after_swapping_it_is_live(resume):
    """Also where its state was made when it was made, of parameters on meta."""
    checker = Checker(Defaults(isolation="off", max_examples=3, seed=0, strict=True))
    assert checker.check_resume(resume, **BEFORE).examples > 3
    # Without what torch's own `load_state_dict` is advised against.
    chosen = {"without": ["reordered-parameters", "state-dtype"]}
    assert checker.check_resume(resume, build=lambda: nn.Linear(2, 2), **chosen).examples > 3


def test_the_switch_decides():
    """What a test of somebody's own sees, without a case."""
    module = nn.Linear(2, 2)
    optimizer = torch.optim.Adagrad(module.parameters())
    state = nn.Linear(2, 2).state_dict()
    with swapping():
        module.load_state_dict(state, assign=True)
    assert_optimizer_tracks(optimizer, module)
    module.load_state_dict(state, assign=True)
    with pytest.raises(CheckpointMismatch, match="CKPT501"):
        assert_optimizer_tracks(optimizer, module)


class Recurrent(nn.Module):
    """What swapping cannot do, between others that it can."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.middle = nn.LSTM(2, 2)
        self.last = nn.Linear(2, 2)


@pytest.mark.parametrize("resume", [swaps, recipes.mmap_meta_swap_resume])
def test_what_swapping_cannot_do_is_a_clear_error(resume):
    error = found(resume, build=Recurrent)
    (finding,) = error.findings
    assert finding.code == "CKPT803"
    assert "middle.weight_ih_l0" in finding.evidence
    assert "weakref" in finding.evidence


def test_a_module_of_which_half_was_loaded_is_found():
    """Torch swaps what it can before it raises: who goes on with that has a mixture."""

    def goes_on(build, make_optimizer, path, device):
        payload = torch.load(path, map_location=device, weights_only=True)
        module = build().to(device)
        optimizer = make_optimizer(module)
        with swapping(), contextlib.suppress(RuntimeError):
            module.load_state_dict(payload["model"], assign=True)
        optimizer.load_state_dict(payload["optimizer"])
        return module, optimizer

    error = found(goes_on, build=Recurrent)
    assert {finding.code for finding in error.findings} <= {"CKPT101", "CKPT104"}
    assert all(name.startswith("middle.") for f in error.findings for name in f.names)
