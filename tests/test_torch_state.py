"""Torch's global state is after a load what it was before."""

from __future__ import annotations

import mmap
from contextlib import suppress

import pytest
import torch

from pytest_ckptload.machine.replaced import functions
from pytest_ckptload.machine.torch_state import poisoned, preserved, snapshot

LEAKS = {
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "grad": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu").__enter__(),
    "reading": lambda: setattr(torch, "load", None),
    "initialisation": lambda: setattr(torch.nn.init, "normal_", None),
    "of a class": lambda: setattr(torch.nn.Linear, "reset_parameters", None),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "fill": lambda: setattr(torch.utils.deterministic, "fill_uninitialized_memory", False),
    "swap": lambda: torch.__future__.set_swap_module_params_on_conversion(True),
    "overwrite": lambda: torch.__future__.set_overwrite_module_params_on_conversion(True),
    "mmap": lambda: torch.serialization.set_default_mmap_options(mmap.MAP_SHARED),
    "endianness": lambda: torch.serialization.set_default_load_endianness(
        torch.serialization.LoadEndianness.BIG
    ),
    "default device": lambda: torch.set_default_device("meta"),
    "entered device": lambda: torch.device("meta").__enter__(),
    "both devices": lambda: (torch.set_default_device("meta"), torch.device("cpu").__enter__()),
    "seed": lambda: torch.manual_seed(3),
    "draw": lambda: torch.rand(3),
}


@pytest.fixture
def undone():
    """Whatever a failing test leaves behind is taken away."""
    before, device = (snapshot(), functions()), torch.get_default_device()
    yield
    assert (snapshot(), functions()) == before
    assert torch.get_default_device() == device


@pytest.mark.usefixtures("undone")
@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_a_leak_is_undone(leak):
    before, generator = (snapshot(), functions()), torch.get_rng_state()
    with preserved():
        leak()
    assert (snapshot(), functions()) == before
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_default_device() == torch.device("cpu")
    assert torch._C._len_torch_function_stack() == 0
    assert torch.zeros(1).device.type == "cpu"


def test_a_default_device_leaves_nothing_behind(monkeypatch):
    """Not even that there is none: torch 2.6 asks for its device then."""
    monkeypatch.delattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", raising=False)
    with preserved():
        torch.set_default_device("meta")
    assert not hasattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context")


@pytest.mark.usefixtures("undone")
@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_a_default_device_of_the_users_own_survives(leak):
    torch.set_default_device("meta")
    try:
        # Torch itself refuses some of these out of order, and leaves its stack half undone.
        with torch.device("cpu"), preserved(), suppress(AssertionError):
            leak()
        assert torch.get_default_device() == torch.device("meta")
        assert torch.zeros(1).is_meta
    finally:
        torch.set_default_device(None)


@pytest.mark.usefixtures("undone")
def test_a_leak_is_undone_after_an_error():
    def fails():
        with preserved():
            torch.set_default_dtype(torch.float64)
            raise KeyError

    with pytest.raises(KeyError):
        fails()


@pytest.mark.usefixtures("undone")
def test_new_memory_is_poisoned_inside_only():
    with poisoned():
        assert torch.empty(3).isnan().all()
        assert (torch.empty(3, dtype=torch.int32) == 2**31 - 1).all()
    with poisoned(fill=False):
        torch.empty(3)
