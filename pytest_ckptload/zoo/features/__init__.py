"""The trap features, one file each, in a folder for each family. To add one, add its file: a module
with a ``FEATURE`` is found here, and registered.
"""

from __future__ import annotations

import importlib
import pkgutil

from pytest_ckptload.zoo.feature import Feature

__all__ = ["ALL", "FAMILIES"]

FAMILIES = (
    "sharing",
    "buffers",
    "parameters",
    "machinery",
    "tensors",
    "keys",
    "file",
    "optimizers",
)
"""The folders, in the order of the docs."""


def _found(family: str) -> list[Feature]:
    folder = importlib.import_module(f"{__name__}.{family}")
    names = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    modules = [importlib.import_module(f"{folder.__name__}.{name}") for name in names]
    return [module.FEATURE for module in modules]


ALL: tuple[Feature, ...] = tuple(feature for family in FAMILIES for feature in _found(family))
"""Every feature that ships with the plugin."""
