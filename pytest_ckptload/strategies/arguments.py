"""The arguments of public strategies, checked when these are made and not when they are drawn."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hypothesis.errors import InvalidArgument
from torch import nn

__all__ = ["check_build", "check_names"]


def check_names(argument: str, names: Any, known: Collection[str], *, least: int = 0) -> None:
    """Raises ``InvalidArgument`` where ``names`` is no list of at least so many known names."""
    if isinstance(names, str) or not isinstance(names, Collection) or len(names) < least:
        raise InvalidArgument(f"{argument}={names!r}: expected a list of names")
    for name in names:
        if name not in known:
            raise InvalidArgument(
                f"{argument}: there is no {name!r}; there are: {', '.join(known)}"
            )


def check_build(build: Any) -> None:
    """Raises ``InvalidArgument`` where ``build()`` does not make a module."""
    factory = callable(build) and not isinstance(build, nn.Module)
    if not factory or not isinstance(build(), nn.Module):
        raise InvalidArgument(
            f"build={build!r}: expected a function without arguments that makes an nn.Module"
        )
