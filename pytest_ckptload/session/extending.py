"""What projects add through hooks, made known once for each session.

Apart from the hook specifications, which only declare, and from the zoo and the rules, which know
no pytest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import pytest

__all__ = ["added_rules", "know_extensions"]

_DEVICES = "pytest_ckptload_devices"
_FEATURES = "pytest_ckptload_features"
_RULES = "pytest_ckptload_rules"

_ASKED = pytest.StashKey[dict[str, set[object]]]()
_ADDED = pytest.StashKey[dict[str, int]]()


def know_extensions(config: pytest.Config) -> None:
    """Register the devices, features and rules that hooks return, until the session ends.

    Called again, it asks those alone that were not there before, as a ``conftest.py`` further down.
    Raises ``pytest.UsageError`` for what is none of these, or has a name that is taken.
    """
    for name in (_DEVICES, _FEATURES, _RULES):
        asked = config.stash.setdefault(_ASKED, {}).setdefault(name, set())
        hook = config.pluginmanager.subset_hook_caller(name, asked)
        implementing = [impl.plugin for impl in hook.get_hookimpls()]
        if implementing:
            answers = hook(config=config)
            asked.update(implementing)
            _know(config, name, answers)


def added_rules(config: pytest.Config) -> int:
    """How many rules were added."""
    return config.stash.get(_ADDED, {}).get(_RULES, 0)


def _know(config: pytest.Config, name: str, answers: Iterable[Any]) -> None:
    kinds, what, register, forget = _registry(name)
    for answer in answers:
        if isinstance(answer, str) or not isinstance(answer, Iterable):
            raise pytest.UsageError(f"{name}: expected a list of {what}, not {answer!r}")
        for extension in answer:
            if not isinstance(extension, kinds):
                raise pytest.UsageError(f"{name}: expected {what}, not {extension!r}")
            try:
                register(extension)
            except ValueError as error:
                raise pytest.UsageError(f"{name}: {error}") from None
            config.add_cleanup(functools.partial(forget, extension))
            added = config.stash.setdefault(_ADDED, {})
            added[name] = added.get(name, 0) + 1


def _registry(
    name: str,
) -> tuple[tuple[type, ...], str, Callable[[Any], None], Callable[[Any], None]]:
    """What a hook is to return, in types and in words, and how that joins and leaves."""
    if name == _RULES:
        from pytest_ckptload.rules import Rule, own

        return (Rule,), "pytest_ckptload.Rule", own.join, own.forget
    if name == _DEVICES:
        import torch

        from pytest_ckptload.machine import devices

        return (str, torch.device), "devices", devices.join, devices.forget
    from pytest_ckptload import zoo
    from pytest_ckptload.zoo.feature import Feature

    return (Feature,), "pytest_ckptload.Feature", zoo.register, zoo.forget
