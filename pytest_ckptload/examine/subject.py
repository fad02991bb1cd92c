"""Whose checkpoints are loaded: a module factory, one fresh module for everybody to look at, and
what modules are called with.

Apart from the pipeline because inputs make subjects, too, and nothing here loads anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import nn

from pytest_ckptload.case import Case
from pytest_ckptload.loader import Build, Inputs
from pytest_ckptload.machine.dtypes import UNFILLED
from pytest_ckptload.observe import Observation, observe
from pytest_ckptload.zoo import seed, seeded
from pytest_ckptload.zoo.structure import Structure, structure_of

__all__ = ["Subject"]


@dataclass(frozen=True)
class Subject:
    """A module factory under a fixed seed, and one fresh module of it for everybody to look at.

    ``make`` is the factory itself, which draws its random numbers from torch's generators, as does
    ``inputs``, which makes what the module can be called with.
    """

    make: Build
    seed: int = 0
    inputs: Inputs | None = None

    def build(self) -> nn.Module:
        """A fresh module on the ambient device."""
        with seeded(self.seed):
            return self.make()

    def construct(self) -> nn.Module:
        """The same for loaders, to whom it is an ordinary factory: the random numbers that it draws
        are drawn, which is seen in what comes after.
        """
        seed(self.seed)
        return self.make()

    @cached_property
    def arguments(self) -> tuple[tuple[Any, ...], Mapping[str, Any]] | None:
        """What to call the module with, where that is known: by position, and by keyword."""
        if self.inputs is None:
            return None
        with seeded(self.seed):
            made = self.inputs()
        if isinstance(made, Mapping):
            return (), made
        return (made if isinstance(made, tuple) else (made,)), {}

    @cached_property
    def fresh(self) -> nn.Module:
        return self.build()

    @cached_property
    def structure(self) -> Structure:
        return structure_of(self.fresh)

    @cached_property
    def initial(self) -> Observation:
        return observe(self.fresh)

    @cached_property
    def fillable(self) -> bool:
        """Whether torch can fill new memory for every dtype of the module."""
        return all(place.tensor.dtype not in UNFILLED for place in self.initial.places.values())

    @classmethod
    def of(cls, case: Case) -> Subject:
        """The subject of a case that has its own module."""
        return cls(partial(case.module.build, None) if case.module else case.build, case.seed)
