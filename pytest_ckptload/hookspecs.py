"""Hooks: how projects and other plugins extend the conformance suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_ckptload.loader import Loader

__all__ = ["pytest_ckptload_loaders"]


@pytest.hookspec
def pytest_ckptload_loaders(config: pytest.Config) -> Mapping[str, Loader] | None:
    """Return loaders by name; each joins the conformance suite as the recipes do.

    Implement it in the ``conftest.py`` of the root folder or of ``tests/``, or in a plugin; a
    ``conftest.py`` further down is read too late when no path is given.

    .. code-block:: python

        def pytest_ckptload_loaders(config):
            return {"our_loader": mypkg.load_fast}

    .. versionadded:: 0.1
    """
