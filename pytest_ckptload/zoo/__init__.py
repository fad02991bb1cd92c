"""What modules can be made of: the ``torch.nn`` catalogue and one file per trap feature.

Here a ``ModuleSpec`` becomes a module: names are looked up in ``torch.nn`` and among the factories
that the features bring along.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import ModuleSpec
from pytest_ckptload.machine.accelerator import accelerator, count
from pytest_ckptload.machine.dtypes import named
from pytest_ckptload.zoo.feature import Feature
from pytest_ckptload.zoo.features import ALL

__all__ = [
    "FEATURES",
    "TENSOR_ARGUMENTS",
    "all_seeded",
    "build",
    "factory",
    "forget",
    "register",
    "seed",
    "seeded",
]

FEATURES: dict[str, Feature] = {}
"""Every feature by its name, in the order of the docs."""

TENSOR_ARGUMENTS = frozenset({"weight", "pos_weight"})
"""The arguments that take a tensor: a spec has its elements, in a tuple."""

_HALVES = ("module", "checkpoint", "optimizer")
_FACTORIES: dict[str, Callable[..., Any]] = {}


def register(feature: Feature) -> None:
    """Make a feature known.

    Raises ``ValueError`` where it is of no half that there is, or where its name, or that of a
    factory, is taken.
    """
    if feature.of not in _HALVES:
        halves = ", ".join(_HALVES)
        raise ValueError(f"feature {feature.name!r}: of={feature.of!r}; there are: {halves}")
    if feature.name in FEATURES:
        raise ValueError(f"there is a feature {feature.name!r} already")
    for made in feature.factories:
        name = made.__name__
        if _FACTORIES.get(name, made) is not made or hasattr(nn, name):
            raise ValueError(f"feature {feature.name!r}: there is a {name!r} already")
    _FACTORIES.update({made.__name__: made for made in feature.factories})
    FEATURES[feature.name] = feature


def forget(feature: Feature) -> None:
    """Undo what ``register`` did."""
    del FEATURES[feature.name]
    for made in feature.factories:
        _FACTORIES.pop(made.__name__, None)


def factory(name: str) -> Callable[..., Any]:
    """The class or function called ``name``, of the zoo or of ``torch.nn``."""
    if name in _FACTORIES:
        return _FACTORIES[name]
    made = getattr(nn, name, None)
    if made is None:
        raise ValueError(f"there is no module {name!r} in torch.nn or in the zoo")
    return made  # type: ignore[no-any-return]


def build(spec: ModuleSpec, seed: int | None = 0) -> nn.Module:
    """A fresh module: on the ambient device, its random values drawn from ``seed`` alone, or where
    that is ``None`` from torch's generators as they stand.
    """
    if seed is None:
        return _build(spec)
    with seeded(seed):
        return _build(spec)


def _build(spec: ModuleSpec) -> nn.Module:
    kwargs = {key: _value(key, value) for key, value in spec.kwargs.items()}
    made = factory(spec.factory)
    children = {name: _build(child) for name, child in spec.children.items()}
    if spec.factory == "Sequential":
        module = made(*children.values())
    elif spec.factory == "ModuleList":
        module = made(children.values())
    elif spec.factory == "ModuleDict":
        module = made(children)
    else:
        module = made(**children, **kwargs)
    for edit in spec.edits:
        factory(edit.function)(module, **edit.kwargs)
    assert isinstance(module, nn.Module)
    return module


def _value(key: str, value: Any) -> Any:
    if key == "dtype" and isinstance(value, str):
        return named(value)
    if key in TENSOR_ARGUMENTS and isinstance(value, tuple):
        return torch.tensor(value)
    return value


def seed(number: int) -> None:
    """Seed torch's random generators."""
    if accelerator() is not None:
        torch.manual_seed(number)
    else:
        # The CPU's alone: torch.manual_seed visits every back end, 30 times as long.
        torch.default_generator.manual_seed(number)


@contextmanager
def seeded(number: int) -> Iterator[None]:
    """Torch's random generators seeded inside, and as before afterwards."""
    if (kind := accelerator()) is not None:
        with torch.random.fork_rng(range(count()), device_type=kind.type):
            seed(number)
            yield
        return
    state = torch.default_generator.get_state()
    seed(number)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


@contextmanager
def all_seeded(number: int) -> Iterator[None]:
    """The same with Python's generator and numpy's: modules that are called draw from them what
    they mask and which layers they skip, and may by chance draw the same twice.
    """
    state = random.getstate()
    numpy: Any = sys.modules.get("numpy.random")
    numpy_state = numpy and numpy.get_state()
    random.seed(number)
    if numpy:
        numpy.seed(number)
    try:
        with seeded(number):
            yield
    finally:
        random.setstate(state)
        if numpy:
            numpy.set_state(numpy_state)


for _feature in ALL:
    register(_feature)
