"""Tests that ask for generated cases in their signature, made into Hypothesis tests.

Apart from the plugin and the fixtures because it needs torch and Hypothesis: it is imported when
the first such test is collected. What is drawn is data, so that Hypothesis shrinks and prints data.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from pytest_ckptload.case import Case
from pytest_ckptload.checks import Defaults
from pytest_ckptload.fixtures import PREPARE, checker_for
from pytest_ckptload.report.text import replay_command
from pytest_ckptload.session.made_real import GIVEN, made_real
from pytest_ckptload.strategies.assembly import selected
from pytest_ckptload.strategies.cases import cases

__all__ = ["converted"]


def converted(made: list[pytest.Function]) -> list[pytest.Function]:
    """The items to use instead of those that pytest made of one function: Hypothesis tests.

    Those that pytest made come back where the function does not ask for a case itself, or has
    ``@given`` already: there the placeholder fixture tells what is wrong.
    """
    first = made[0]
    function = first.function
    names = [n for n in first._fixtureinfo.argnames if n in GIVEN and _is_ours(first, n)]
    if not names or getattr(function, "is_hypothesis_test", False):
        return made
    # Markers may still be added: what is drawn, and how, is settled when the test is set up.
    stub = given(**{name: st.none() for name in names})(function)
    collector: Any = first.parent
    items: list[pytest.Function] = list(collector._genfunctions(first.originalname, stub))
    for item in items:
        prepare: Callable[[], None] = functools.partial(_prepare, item, function, names)
        item.stash[PREPARE] = prepare
        _put(item, stub)
    return items


def _is_ours(item: pytest.Function, name: str) -> bool:
    """Whether ``name`` is the placeholder: neither parametrized nor overridden by the user."""
    definitions = item._fixtureinfo.name2fixturedefs.get(name, ())
    return bool(definitions) and definitions[-1].func.__module__ == "pytest_ckptload.fixtures"


def _put(item: pytest.Function, test: Callable[..., Any]) -> None:
    """Have the item run ``test``.

    The class or module keeps the user's function: other classes may inherit it, or call it.
    """
    owner = getattr(item.obj, "__self__", None)
    item.obj = test if owner is None else types.MethodType(test, owner)


def _prepare(item: pytest.Function, function: Callable[..., Any], names: Sequence[str]) -> None:
    """Give the item the Hypothesis test that its markers and the command line ask for."""
    if problem := _problem(item, function, names[0]):
        pytest.fail(problem, pytrace=False)
    try:
        checker = checker_for(item)
        defaults = checker.defaults
        # Shared, so that all names in one signature belong to one case.
        drawn = st.shared(_strategy(defaults, names), key="ckptload")
    except (InvalidArgument, ValueError) as error:
        pytest.fail(str(error), pytrace=False)
    test: Any = given(**dict.fromkeys(names, drawn))(function)
    # Hypothesis' own pytest plugin sets both of these private attributes as well.
    test._hypothesis_internal_use_settings = _settings(function, defaults)
    if defaults.seed is not None:
        test = with_seed(defaults.seed)(test)
    replay = functools.partial(replay_command, item.nodeid, ())
    inner: Any = made_real(function, names, replay, checker.tried)
    inner._hypothesis_internal_add_digest = item.nodeid.encode()
    test.hypothesis.inner_test = inner
    _put(item, test)


def _problem(item: pytest.Function, function: Callable[..., Any], name: str) -> str | None:
    """Why this test cannot be a Hypothesis test over cases."""
    if inspect.iscoroutinefunction(function):
        return f"{name} is for tests that are plain functions, and this one is async"
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty:
            return (
                f"{name} makes this a Hypothesis test, whose parameters have no defaults: "
                f"{parameter.name} has one"
            )
    if HealthCheck.function_scoped_fixture in _own_settings(function)[0].suppress_health_check:
        return None
    info = item._fixtureinfo
    for asked in info.argnames:
        *_, used = info.name2fixturedefs.get(asked) or (None,)
        # `parametrize` is made of fixtures, too: of pytest's own.
        if used and used.scope == "function" and used.func.__module__ != "_pytest.python":
            strategy = "modules()" if name == "ckptload_module" else "cases()"
            return (
                f"{name} makes this test run once for each generated example, but {asked} is "
                "function-scoped: it would be set up for the first alone. Use a fixture of wider "
                "scope (tmp_path_factory for tmp_path), or draw inside of the test, in a function "
                f"with @given(pytest_ckptload.strategies.{strategy})"
            )
    return None


def _strategy(defaults: Defaults, names: Sequence[str]) -> st.SearchStrategy[Case]:
    """The loadable cases that the test is to see."""
    if defaults.replay is not None:
        if defaults.replay.module is None:
            raise ValueError("this case was made for a given build=: it has no module of its own")
        return st.just(defaults.replay)
    only_modules = set(names) == {"ckptload_module"}
    features = [
        feature.name
        for feature in selected(defaults.features, defaults.without)
        if feature.ordinary(defaults.promises) and (feature.of == "module" or not only_modules)
    ]
    return cases(features=features if _narrowed(defaults) or only_modules else None)


def _narrowed(defaults: Defaults) -> bool:
    return defaults.features is not None or bool(defaults.without or defaults.promises)


def _own_settings(function: Callable[..., Any]) -> tuple[settings, settings]:
    """The settings of the test's own ``@settings``, or else the profile's; and the profile's."""
    profile = settings.default
    assert profile is not None
    return getattr(function, "_hypothesis_internal_use_settings", None) or profile, profile


def _settings(function: Callable[..., Any], defaults: Defaults) -> settings:
    """The test's settings. What its own ``@settings`` says comes before options and marker.

    A value that is the profile's as well counts as not said: Hypothesis keeps no difference.
    """
    own, profile = _own_settings(function)
    if defaults.replay is not None:
        return settings(own, max_examples=1, phases=[Phase.generate], database=None, deadline=None)
    changes: dict[str, Any] = {}
    if defaults.max_examples is not None and own.max_examples == profile.max_examples:
        changes["max_examples"] = max(1, defaults.max_examples)
    if own.deadline == profile.deadline:
        changes["deadline"] = None
    left_out = set() if defaults.shrink else {Phase.shrink, Phase.explain}
    if own.phases == profile.phases:
        # It would name lines of torch's and of this package's, and takes its time.
        left_out |= {Phase.explain}
    changes["phases"] = [phase for phase in own.phases if phase not in left_out]
    return settings(own, **changes)
