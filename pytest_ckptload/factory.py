"""A user's own module factory, tried out before anything is loaded into what it makes.

Apart from the other inputs because it takes running: two modules are made, and looked at.
"""

from __future__ import annotations

import inspect
import io
from typing import Any

import torch
from torch import nn

from pytest_ckptload.observe import observe
from pytest_ckptload.observe.tensors import same_bits
from pytest_ckptload.subject import Subject
from pytest_ckptload.zoo.structure import structure_of

# Errors raised here are sentences for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

__all__ = ["user_subject"]


def user_subject(build: Any) -> Subject:
    """The subject of a user's factory, tried out.

    Raises ``TypeError`` or ``ValueError`` where it cannot be called, makes no module, one that is
    on a device already or cannot be saved, or another module each time.
    """
    if not callable(build):
        raise TypeError(f"build= is a callable that makes a module, not {build!r}")
    name = getattr(build, "__qualname__", repr(build))
    try:
        inspect.signature(build).bind()
    except TypeError as error:
        raise TypeError(f"build={name} must take no arguments: {error}") from None
    except ValueError:  # builtins have no signature
        pass
    subject = Subject(build)
    first, second = _built(subject, name), _built(subject, name)
    if first is second:
        raise ValueError(f"build={name} returned the same module twice: it must make a fresh one")
    _check_alike(first, second, name)
    return subject


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
