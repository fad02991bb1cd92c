"""A user's own optimizer factory, tried out before anything is resumed with what it makes.

Apart from the module factory because an optimizer takes more: it is made twice, steps once, and
loads what the other one saved.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import ModuleSpec
from pytest_ckptload.examine.loads import quiet
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.examine.trials.stepping import take_step
from pytest_ckptload.loader import loader_name
from pytest_ckptload.machine.torch_state import preserved
from pytest_ckptload.observe import observe
from pytest_ckptload.printable import described
from pytest_ckptload.zoo.optimizers import steppable

# Errors raised here are sentences for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

__all__ = ["try_optimizer"]

_USUAL = ModuleSpec("Linear", {"in_features": 2, "out_features": 2})
_NEEDED = ("step", "state_dict", "load_state_dict")


def try_optimizer(
    make_optimizer: Any, make_scheduler: Any = None, subject: Subject | None = None
) -> None:
    """Make optimizers, and schedulers, for fresh modules of the subject, and use them.

    Raises ``TypeError`` or ``ValueError`` where that fails, or they are of no use to a check.
    """
    made = "make_optimizer", make_optimizer
    for name, make in (made, ("make_scheduler", make_scheduler)):
        if make is not None and not callable(make):
            raise TypeError(f"{name}= is a callable, not {make!r}")
    subject = subject or Subject(_USUAL.build)
    if not any(steppable(p, meta=True) for p in subject.fresh.parameters()):
        return  # which the check itself will say
    with preserved(), quiet():
        _try(f"make_optimizer={loader_name(make_optimizer)}", make_optimizer, subject)
        if make_scheduler is not None:
            _try_scheduler(make_scheduler, make_optimizer(subject.build()))


def _try(name: str, make_optimizer: Any, subject: Subject) -> None:
    module = subject.build()
    first = _made(name, make_optimizer, module)
    _check_numbers(name, first)
    try:
        take_step(first, observe(module), 0)
    except Exception as error:
        raise ValueError(
            f"{name} made a {type(first).__name__} that cannot take a step: {described(error)}"
        ) from error
    second = _made(name, make_optimizer, subject.build(), again=True)
    if first is second:
        raise ValueError(f"{name} returned the same optimizer twice: it must make a fresh one")
    if type(first) is not type(second):
        kinds = f"a {type(first).__name__}, then a {type(second).__name__}"
        raise ValueError(f"{name} must make the same optimizer each time: it made {kinds}")
    saved = _read_back(name, first)
    try:
        second.load_state_dict(saved)
    except Exception as error:
        raise ValueError(
            f"{name} made two optimizers, and the second does not load what the first one saved: "
            f"{described(error)}"
        ) from error


def _made(name: str, make_optimizer: Any, module: nn.Module, *, again: bool = False) -> Any:
    """An optimizer for this module, which it steps."""
    hint = (
        "it worked the first time: if it holds a generator, as `module.parameters()` gives one, "
        "that is used up; ask the module that make_optimizer is given"
        if again
        else "call `module.parameters()` on the module that it is given"
    )
    try:
        optimizer = make_optimizer(module)
    except Exception as error:
        raise ValueError(
            f"{name} failed for a {type(module).__name__}: {described(error)} ({hint})"
        ) from error
    groups = getattr(optimizer, "param_groups", None)
    missing = [part for part in _NEEDED if not hasattr(optimizer, part)]
    if not isinstance(groups, list) or missing:
        raise TypeError(f"{name} returned a {type(optimizer).__name__}, not an optimizer")
    held = {id(parameter) for group in groups for parameter in group["params"]}
    if not held:
        raise ValueError(f"{name} made an optimizer without a parameter: {hint}")
    if held.isdisjoint(map(id, module.parameters())):
        raise ValueError(
            f"{name} made an optimizer of tensors that are no parameters of the module: {hint}"
        )
    return optimizer


def _check_numbers(name: str, optimizer: Any) -> None:
    for number, group in enumerate(optimizer.param_groups):
        for key, value in group.items():
            if key != "params" and any(math.isnan(part) for part in _numbers(value)):
                raise ValueError(
                    f"{name} made an optimizer whose param_groups[{number}][{key!r}] is {value}: "
                    "each step makes NaN of every parameter, and nothing could be told"
                )


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, torch.Tensor):
        yield from value.flatten().tolist() if value.is_floating_point() else ()
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, float):
        yield value


def _read_back(name: str, optimizer: Any) -> Any:
    """Its state dict as a file has it."""
    buffer = io.BytesIO()
    try:
        torch.save(optimizer.state_dict(), buffer)
        buffer.seek(0)
        return torch.load(buffer, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:
        raise ValueError(
            f"{name} made an optimizer whose state dict no file can hold that is read with "
            f"weights_only=True: {described(error)}"
        ) from error


def _try_scheduler(make_scheduler: Any, optimizer: Any) -> None:
    name = f"make_scheduler={loader_name(make_scheduler)}"
    try:
        scheduler = make_scheduler(optimizer)
    except Exception as error:
        raise ValueError(
            f"{name} failed for a {type(optimizer).__name__}: {described(error)}"
        ) from error
    missing = [part for part in _NEEDED if not hasattr(scheduler, part)]
    if missing:
        raise TypeError(f"{name} returned a {type(scheduler).__name__}, not a scheduler")
