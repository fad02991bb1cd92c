"""What torch's optimizers get wrong in one process, where no file shows it to the suite.

Each is a strict expected failure: the release of torch that mends one makes it fail, and then its
section in the page on known divergences goes.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn


def divergence(issue):
    return pytest.mark.xfail(reason=issue, strict=True)


def trained(module=None, **settings):
    module = module or nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.125, **settings)
    for _ in range(2):
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, 1 / 3)
        optimizer.step()
    return module, optimizer


def tensors(optimizer):
    return [value for state in optimizer.state.values() for value in state.values()]


@divergence("pytorch/pytorch#196083")
def test_an_optimizer_has_state_of_its_own_after_loading_that_of_another():
    _, first = trained()
    second = torch.optim.AdamW(nn.Linear(2, 2).parameters())
    second.load_state_dict(first.state_dict())
    addresses = {tensor.data_ptr() for tensor in tensors(first)}
    assert addresses.isdisjoint(tensor.data_ptr() for tensor in tensors(second))


@divergence("pytorch/pytorch#147288")
def test_loading_writes_to_the_state_that_there_is():
    _, optimizer = trained()
    before = tensors(optimizer)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert all(one is other for one, other in zip(before, tensors(optimizer), strict=True))


@divergence("pytorch/rl#3966")
def test_state_that_was_loaded_does_not_hold_the_file(tmp_path):
    _, optimizer = trained()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    saved = torch.load(tmp_path / "optimizer.pt", map_location="cpu", weights_only=True, mmap=True)
    optimizer.load_state_dict(saved)
    mapped = {value.data_ptr() for state in saved["state"].values() for value in state.values()}
    assert mapped.isdisjoint(tensor.data_ptr() for tensor in tensors(optimizer))


@divergence("pytorch/pytorch#143828")
def test_a_group_without_parameters_keeps_its_settings():
    from torch.distributed.checkpoint.state_dict import (
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )

    def made():
        module = nn.Linear(2, 2)
        groups = ([module.weight], [], [module.bias])
        rates = (0.25, 0.5, 0.75)
        settings = [{"params": g, "lr": lr} for g, lr in zip(groups, rates, strict=True)]
        return module, torch.optim.AdamW(settings)

    module, optimizer = made()
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    other, resumed = made()
    set_optimizer_state_dict(other, resumed, get_optimizer_state_dict(module, optimizer))
    assert [group.get("lr") for group in resumed.param_groups] == [0.25, 0.5, 0.75]


@divergence("pytorch/pytorch#43706")
def test_state_keeps_the_dtype_that_it_was_saved_in():
    _, optimizer = trained(nn.Linear(2, 2).bfloat16())
    saved = copy.deepcopy(optimizer.state_dict())
    for state in saved["state"].values():
        state["exp_avg"] = state["exp_avg"].float() + 1e-5
    optimizer.load_state_dict(saved)
    assert {state["exp_avg"].dtype for state in optimizer.state.values()} == {torch.float32}


@divergence("pytorch/pytorch#1489")
def test_state_is_given_out_by_name():
    def made(order):
        module = nn.LayerNorm(2)
        return module, torch.optim.AdamW([*module.named_parameters()][::order], lr=0.125)

    module, optimizer = made(1)
    module.weight.grad, module.bias.grad = torch.ones(2), torch.full((2,), 2.0)
    optimizer.step()
    other, resumed = made(-1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(
        resumed.state[other.weight]["exp_avg"], optimizer.state[module.weight]["exp_avg"]
    )
