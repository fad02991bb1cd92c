"""A user's own module factory, tried out before anything is loaded into what it makes.

Apart from the other inputs because it takes running: two modules are made, looked at, and called
where it is known with what.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from pytest_ckptload.examine.loads import quiet
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.examine.trials.calls import Call, run
from pytest_ckptload.observe import observe
from pytest_ckptload.observe.tensors import same_bits
from pytest_ckptload.printable import described
from pytest_ckptload.zoo.structure import structure_of

# Errors raised here are sentences for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

__all__ = ["user_subject"]


def user_subject(build: Any, inputs: Any = None) -> Subject:
    """The subject of a user's factory, tried out, and what ``inputs`` makes to call it with.

    Raises ``TypeError`` or ``ValueError`` where one of them cannot be called, where there comes no
    module, one that is on a device already or cannot be saved, or another module each time, and
    where that cannot be called with the inputs.
    """
    if not callable(build):
        raise TypeError(f"build= is a callable that makes a module, not {build!r}")
    name = _name_of(build)
    _check_no_arguments("build", build)
    subject = Subject(build, inputs=inputs)
    first, second = _built(subject, name), _built(subject, name)
    if first is second:
        raise ValueError(f"build={name} returned the same module twice: it must make a fresh one")
    _check_alike(first, second, name)
    if inputs is not None:
        _check_inputs(subject, second, name)
    return subject


def _name_of(factory: Callable[..., Any]) -> str:
    return getattr(factory, "__qualname__", repr(factory))


def _check_no_arguments(what: str, factory: Callable[..., Any]) -> None:
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        name = _name_of(factory)
        raise TypeError(f"{what}={name} must take no arguments: {error}") from None
    except ValueError:  # builtins have no signature
        pass


def _built(subject: Subject, name: str) -> nn.Module:
    try:
        module = subject.build()
    except Exception as error:
        raise ValueError(f"build={name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise TypeError(f"build={name} returned a {type(module).__name__}, not an nn.Module")
    tensors = [*module.parameters(), *module.buffers()]
    if not tensors:
        raise ValueError(f"build={name} made a module without a parameter or buffer to load")
    if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise ValueError(
            f"build={name} made a module with lazy parameters, which have no shape yet: run it "
            "once, in the factory, on an input"
        )
    # One that is spread over several has decided itself where its parts are.
    away, *others = {tensor.device: None for tensor in tensors}
    if away.type != "cpu" and not others:
        raise ValueError(
            f"build={name} made a module on {away}: it must be made on the CPU, or where torch's "
            "ambient device says; the loader moves it"
        )
    _check_saved(module, name)
    return module


def _check_saved(module: nn.Module, name: str) -> None:
    """What is in the state dict can be written: tried on everything but the elements."""
    tried: set[torch.dtype] = set()
    for entry, value in module.state_dict().items():
        probe = value
        if type(value) in (torch.Tensor, nn.Parameter) and value.layout == torch.strided:
            if value.dtype in tried:
                continue
            tried.add(value.dtype)
            probe = torch.empty(0, dtype=value.dtype, device="cpu")
        try:
            torch.save(probe, io.BytesIO())
        except Exception as error:
            raise ValueError(
                f"build={name} made a module whose {entry!r} cannot be saved: "
                f"{type(error).__name__}: {error}"
            ) from error


def _check_alike(first: nn.Module, second: nn.Module, name: str) -> None:
    """Two modules of one factory have the same structure, and the same values where none are
    saved.
    """
    if structure_of(first) != structure_of(second):
        raise ValueError(
            f"build={name} is not deterministic: two calls gave modules with different names, "
            "shapes or dtypes"
        )
    left, right = observe(first), observe(second)
    saved = {slot.name for slot in structure_of(first).saved}
    for place in left.places.values():
        other = right.places.get(place.name)
        if place.name in saved or place.tensor.is_meta:
            continue
        alike = (
            other is not None
            and other.tensor.shape == place.tensor.shape
            and other.tensor.dtype == place.tensor.dtype
            and same_bits(other.tensor, place.tensor)
        )
        if not alike:
            raise ValueError(
                f"build={name} is not deterministic: two calls under one torch seed gave "
                f"{place.name!r}, which no checkpoint holds, different values; draw them from "
                "torch's generator or a fixed seed"
            )


def _check_inputs(subject: Subject, module: nn.Module, name: str) -> None:
    """The module can be called with them, in one mode at least, and tensors come of it."""
    inputs = subject.inputs
    if not callable(inputs):
        kind = type(inputs).__name__
        raise TypeError(f"inputs= is a callable that makes what to call modules with, not a {kind}")
    _check_no_arguments("inputs", inputs)
    given = f"inputs={_name_of(inputs)}"
    try:
        made = subject.arguments
    except Exception as error:
        raise ValueError(f"{given} failed: {described(error)}") from error
    assert made is not None
    with quiet():
        runs = [run(module, Call("", *made, training)) for training in (False, True)]
    errors = [outcome for outcome in runs if isinstance(outcome, Exception)]
    if len(errors) == len(runs):
        raise ValueError(
            f"build={name} made a module that cannot be called with what {given} made: "
            f"{described(errors[0])}"
        )
    if not any(outcome[0] for outcome in runs if not isinstance(outcome, Exception)):
        raise ValueError(f"build={name} made a module that gives no tensor for what {given} made")
