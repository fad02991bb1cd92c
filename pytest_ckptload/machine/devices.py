"""The devices that loads are checked on.

Apart because the options, the fixtures and the suite all name them, and must do it alike.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence

import torch

from pytest_ckptload.machine.accelerator import accelerator, count

# Errors raised here are sentences for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

__all__ = ["available", "forget", "join", "named"]

_JOINED: list[torch.device] = []


def available() -> list[torch.device]:
    """The CPU, every index of the current accelerator and of XLA, where ``torch_xla`` is installed,
    and those that projects add.
    """
    found = [torch.device("cpu"), *_accelerators(), *_xla()]
    return [*found, *(device for device in _JOINED if device not in found)]


def _accelerators() -> list[torch.device]:
    kind = accelerator()
    if kind is None:
        return []
    found = _counted(f"{kind.type} devices", count)
    return [torch.device(kind.type, index) for index in range(found)]


def _xla() -> list[torch.device]:
    if importlib.util.find_spec("torch_xla") is None:
        return []
    found = _counted("XLA devices", lambda: importlib.import_module("torch_xla").device_count())
    return [torch.device("xla", index) for index in range(found)]


def _counted(what: str, counting: Callable[[], int]) -> int:
    """How many there are; none, with a warning, where the back end fails: the CPU is there yet."""
    try:
        return counting()
    except Exception as error:
        warnings.warn(
            f"{what} are left out: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2
        )
        return 0


def join(device: str | torch.device) -> None:
    """Add a device to those that are available.

    Raises ``ValueError`` for one that torch does not know, or that cannot hold a tensor.
    """
    try:
        added = torch.device(device)
        torch.empty(1, device=added)
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"device {str(device)!r} cannot be used: {reason}") from None
    if added.type == "meta":
        raise ValueError("device 'meta' cannot be used: there is nothing to compare on it")
    _JOINED.append(added)


def forget(device: str | torch.device) -> None:
    """Undo what ``join`` did."""
    _JOINED.remove(torch.device(device))


def named(names: Sequence[str | torch.device]) -> list[torch.device]:
    """The devices by these names: ``"all"``, ``"cpu"``, ``"cuda"`` (every index), ``"cuda:1"``.

    Raises ``ValueError`` for one that is not here.
    """
    here = available()
    chosen: list[torch.device] = []
    for name in names:
        matching = [d for d in here if str(name) in ("all", str(d), d.type)]
        if not matching:
            raise ValueError(
                f"there is no device {str(name)!r} here; there are: {', '.join(map(str, here))}"
            )
        chosen += [d for d in matching if d not in chosen]
    return chosen
