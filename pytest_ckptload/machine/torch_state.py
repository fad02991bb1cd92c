"""Torch's global state: kept as it was, and set up for a load.

Apart because a loader may change any of it, for the tests that follow as much as for itself, and
because nothing else in the package sets a global of torch's.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _device

from pytest_ckptload.machine.accelerator import accelerator, count
from pytest_ckptload.machine.replaced import functions, put_back

# A module of a class of its own, which type checkers cannot see into.
_deterministic: Any = torch.utils.deterministic

__all__ = ["Kept", "poisoned", "preserved", "same_random", "snapshot"]

# The CPU's generator, and that of each device of the accelerator by index.
_Random = tuple[torch.Tensor, list[tuple[int, torch.Tensor]]]


def snapshot() -> dict[str, Any]:
    """Every global setting of torch's that a loader may change, by name."""
    return {
        "default dtype": torch.get_default_dtype(),
        "grad mode": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic algorithms": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "fill_uninitialized_memory": _deterministic.fill_uninitialized_memory,
        "swap_module_params_on_conversion": torch.__future__.get_swap_module_params_on_conversion(),
        "overwrite_module_params_on_conversion": (
            torch.__future__.get_overwrite_module_params_on_conversion()
        ),
        "default mmap options": torch.serialization.get_default_mmap_options(),
        "default load endianness": torch.serialization.get_default_load_endianness(),
    }


def _restore(settings: dict[str, Any]) -> None:
    torch.set_default_dtype(settings["default dtype"])
    torch.set_grad_enabled(settings["grad mode"])
    torch.set_autocast_enabled("cpu", settings["autocast"])
    deterministic, warn_only = settings["deterministic algorithms"]
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    _deterministic.fill_uninitialized_memory = settings["fill_uninitialized_memory"]
    torch.__future__.set_swap_module_params_on_conversion(
        settings["swap_module_params_on_conversion"]
    )
    torch.__future__.set_overwrite_module_params_on_conversion(
        settings["overwrite_module_params_on_conversion"]
    )
    torch.serialization.set_default_mmap_options(settings["default mmap options"])
    torch.serialization.set_default_load_endianness(  # type: ignore[no-untyped-call]
        settings["default load endianness"]
    )


@dataclass
class Kept:
    """What was found at the end of what ``preserved`` undoes.

    ``changed`` has the settings that were not as before, by name: what they were, and what they
    had become; functions that were replaced are among them. ``random`` is the state in which the
    generators were left.
    """

    changed: dict[str, tuple[str, str]] = field(default_factory=dict)
    random: _Random | None = None


@contextmanager
def preserved() -> Iterator[Kept]:
    """Torch's global state is afterwards what it was before, whatever happened inside.

    That is all of ``snapshot``, the random state, the default device, contexts that were entered
    and not left (``torch.device("meta")`` without ``with``), and functions that loaders replace.
    """
    before, torchs_own = snapshot(), functions()
    generators = _random_state()
    devices = _device_state()
    kept = Kept()
    try:
        yield kept
    finally:
        kept.random = _random_state()
        kept.changed = {
            name: (str(before[name]), str(value))
            for name, value in snapshot().items()
            if value != before[name]
        }
        if _device_state() != devices:
            kept.changed["default device"] = (str(devices), str(_device_state()))
            _set_device_state(devices)
        if kept.changed.keys() & before.keys():
            _restore(before)
        kept.changed.update(put_back(torchs_own))
        _set_random_state(generators)


@dataclass(frozen=True, eq=False)
class _DeviceState:
    """What decides the default device: torch's stack of function modes and two variables beside
    it.
    """

    modes: tuple[TorchFunctionMode, ...]
    current: torch.device | None
    context: TorchFunctionMode | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _DeviceState) and (
            list(map(id, self.modes)) == list(map(id, other.modes))
            and self.current == other.current
            and self.context is other.context
        )

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        devices = [str(getattr(mode, "device", type(mode).__name__)) for mode in self.modes]
        return ", ".join(devices) or str(self.current or "cpu")


def _device_state() -> _DeviceState:
    depth = torch._C._len_torch_function_stack()
    return _DeviceState(
        tuple(torch._C._get_function_stack_at(i) for i in range(depth)),
        _device.CURRENT_DEVICE,
        getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None),
    )


def _set_device_state(state: _DeviceState) -> None:
    # Not by leaving what was entered: torch insists on an order that leaks do not keep.
    while torch._C._len_torch_function_stack():
        torch._C._pop_torch_function_stack()
    for mode in state.modes:
        torch._C._push_on_torch_function_stack(mode)
    _device.CURRENT_DEVICE = state.current
    torch._GLOBAL_DEVICE_CONTEXT.device_context = state.context
    if state.context is None:
        # Torch 2.6 asks whether there is one, and not which.
        del torch._GLOBAL_DEVICE_CONTEXT.device_context


def _random_state() -> _Random:
    accelerators = []
    if (kind := accelerator()) is not None:
        module = torch.get_device_module(kind)
        accelerators = [(index, module.get_rng_state(index)) for index in range(count())]
    return torch.get_rng_state(), accelerators


def same_random(left: _Random, right: _Random) -> bool:
    """Whether all generators go on with the same numbers."""
    return torch.equal(left[0], right[0]) and all(
        torch.equal(one, other) for (_, one), (_, other) in zip(left[1], right[1], strict=True)
    )


def _set_random_state(state: _Random) -> None:
    torch.set_rng_state(state[0])
    for index, generator in state[1]:
        module = torch.get_device_module(accelerator())
        module.set_rng_state(generator, index)


@contextmanager
def poisoned(*, fill: bool = True) -> Iterator[None]:
    """New memory is filled with NaN, or the greatest integer, while inside.

    It takes deterministic algorithms to have torch do so; their warnings are silenced, and nobody
    else's. ``fill=False`` leaves it out, for dtypes that cannot be filled.
    """
    mode = torch.get_deterministic_debug_mode()
    filled = _deterministic.fill_uninitialized_memory
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*does not have a deterministic implementation.*"
        )
        # The same switch as use_deterministic_algorithms(True, warn_only=True), which imports
        # Inductor besides, to tell it: a second, and another global to put back.
        torch.set_deterministic_debug_mode("warn")
        _deterministic.fill_uninitialized_memory = fill
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)
            _deterministic.fill_uninitialized_memory = filled
