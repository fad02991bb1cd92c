"""The fixtures. Their bodies import what they hand out, so that this file costs nothing.

None is function-scoped: Hypothesis refuses those in a ``@given`` test. ``ckptload`` finds the test
that runs, and its marker, by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_ckptload.options import SETTINGS

if TYPE_CHECKING:
    from pytest_ckptload.allowances import Allowance
    from pytest_ckptload.checks import Checker, Defaults
    from pytest_ckptload.scores import Trial
    from pytest_ckptload.tried import Tried

__all__ = [
    "CURRENT",
    "PREPARE",
    "TRIALS",
    "allowances_in",
    "checker_for",
    "ckptload",
    "ckptload_case",
    "ckptload_checkpoint",
    "ckptload_device",
    "ckptload_module",
    "tried_in",
    "with_mutants",
]

CURRENT = pytest.StashKey[pytest.Item]()
"""The item that runs, kept on the config."""

PREPARE = pytest.StashKey[Callable[[], None]]()
"""What to do before an item is set up, kept on the item."""

TRIALS = pytest.StashKey[list["Trial"]]()
"""The trials of mutants in an item, until they are reported."""

_CHECKER = pytest.StashKey["Checker"]()
_MARKER_LISTS = {"features", "without", "promises", "devices"}
_MARKER_ARGUMENTS = ("features", "without", "promises", "allow", "devices", "max_examples")


@pytest.fixture(scope="session")
def ckptload(request: pytest.FixtureRequest) -> Ckptload:
    """Checks loaders: ``check``, ``check_resume``, ``assert_matches_eager``."""
    return Ckptload(request.config)


@pytest.fixture
def ckptload_device() -> NoReturn:
    """A device to load on: the test runs once for each that is available."""
    pytest.fail("ckptload_device is for tests to ask for, not for other fixtures", pytrace=False)


def _only_in_signatures(name: str, strategy: str) -> NoReturn:
    pytest.fail(
        f"{name} is drawn anew for every example, so it can only be asked for in a test's own "
        f"signature, without @given; elsewhere use pytest_ckptload.strategies.{strategy} with "
        "@given",
        pytrace=False,
    )


@pytest.fixture
def ckptload_case() -> NoReturn:
    """A generated case: ``.build()`` makes its module, ``.path`` is its checkpoint on disk."""
    _only_in_signatures("ckptload_case", "cases()")


@pytest.fixture
def ckptload_module() -> NoReturn:
    """A generated module, freshly built."""
    _only_in_signatures("ckptload_module", "modules()")


@pytest.fixture
def ckptload_checkpoint() -> NoReturn:
    """The path of a generated checkpoint that the eager recipe loads."""
    _only_in_signatures("ckptload_checkpoint", "checkpoints()")


class Ckptload:
    """What the ``ckptload`` fixture hands out. See ``Checker`` for the methods' arguments."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def check(self, *args: Any, **kwargs: Any) -> Any:
        """Assert that a loader gives the module that eager loading gives."""
        __tracebackhide__ = True
        return self._check("check", *args, **kwargs)

    def check_resume(self, *args: Any, **kwargs: Any) -> Any:
        """Assert that a resumer gives the module and the optimizer that eager resuming gives."""
        __tracebackhide__ = True
        return self._check("check_resume", *args, **kwargs)

    def assert_matches_eager(self, *args: Any, **kwargs: Any) -> None:
        """Assert that a loaded module is the one that eager loading of a case gives."""
        __tracebackhide__ = True
        checker_for(self._item()).assert_matches_eager(*args, **kwargs)

    def _check(self, method: str, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        item = self._item()
        checker = checker_for(item)
        if not self._config.stash[SETTINGS].mutants:
            return getattr(checker, method)(*args, **kwargs)
        by_name = "loader" if method == "check" else "resume"
        load = args[0] if args else kwargs.pop(by_name, None)
        return with_mutants(item, checker, method, load, kwargs)

    def _item(self) -> pytest.Item:
        __tracebackhide__ = True
        item = self._config.stash.get(CURRENT, None)
        if item is None:
            raise RuntimeError("ckptload checks run inside a test, and no test is running")
        return item


def checker_for(item: pytest.Item) -> Checker:
    """The checker of a test: the same for all its checks, which it counts."""
    __tracebackhide__ = True
    if _CHECKER not in item.stash:
        from pytest_ckptload.checks import Checker

        item.stash[_CHECKER] = Checker(
            _defaults(item), item.nodeid, _options(item.config), lambda r: _record(item, r)
        )
    return item.stash[_CHECKER]


def with_mutants(
    item: pytest.Item, checker: Checker, method: str, load: Any, arguments: Mapping[str, Any]
) -> Any:
    """Run a check of a test, and then on the mutants of the loader."""
    __tracebackhide__ = True
    from pytest_ckptload.checks.mutants import tried_with_mutants

    record = item.stash.setdefault(TRIALS, []).append
    return tried_with_mutants(checker, method, load, arguments, record)


def tried_in(item: pytest.Item) -> Tried | None:
    """What the checks of a test tried, where it made any."""
    checker = item.stash.get(_CHECKER, None)
    return None if checker is None else checker.tried


def allowances_in(item: pytest.Item) -> list[tuple[str, str, str, bool]]:
    """The allowances that the checks of a test had: who gave each, its key, its reason, and whether
    it was used.
    """
    checker = item.stash.get(_CHECKER, None)
    held = {} if checker is None else checker.allowances
    return [(a.where or _function(item), a.key, a.reason, used) for a, used in held.items()]


def check_marker(item: pytest.Item) -> None:
    """Raises ``pytest.UsageError`` where the test's ``ckptload`` marker has arguments that are
    none, or that say nothing.
    """
    for marker in item.iter_markers("ckptload"):
        wrong = [repr(a) for a in marker.args]
        wrong += [name for name in marker.kwargs if name not in _MARKER_ARGUMENTS]
        if wrong:
            raise pytest.UsageError(
                f"@pytest.mark.ckptload takes {', '.join(_MARKER_ARGUMENTS)}, by keyword, "
                f"not {', '.join(wrong)}"
            )
    try:
        _marked_allowances(item)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"@pytest.mark.ckptload: {error}") from None


def _marked_allowances(item: pytest.Item) -> list[Allowance]:
    """Those of all markers of a test, the nearest first: they add up."""
    marked = [
        (node, marker.kwargs["allow"])
        for node, marker in item.iter_markers_with_node("ckptload")
        if "allow" in marker.kwargs
    ]
    if not marked:
        return []
    from pytest_ckptload.allowances import allowances

    return [a for node, allow in marked for a in allowances(allow, _function(node))]


def _function(node: Any) -> str:
    """The id of a node, of a test without its parameters: what is written there, all share."""
    if isinstance(node, pytest.Function) and node.parent is not None:
        return f"{node.parent.nodeid}::{node.originalname}"
    return str(node.nodeid)


def _defaults(item: pytest.Item) -> Defaults:
    __tracebackhide__ = True
    from pytest_ckptload.checks import Defaults
    from pytest_ckptload.checks.inputs import given_case

    settings = item.config.stash[SETTINGS]
    marked: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers("ckptload"))):
        marked |= marker.kwargs
    for name in _MARKER_LISTS & set(marked):
        marked[name] = (marked[name],) if isinstance(marked[name], str) else tuple(marked[name])
    replay = settings.replay
    return Defaults(
        features=settings.features or marked.get("features"),
        without=settings.without or marked.get("without", ()),
        promises=settings.promises or marked.get("promises", ()),
        allow=(*_marked_allowances(item), *settings.allow),
        devices=settings.devices or marked.get("devices", ()),
        max_examples=_first(settings.max_examples, marked.get("max_examples")),
        seed=settings.seed,
        shrink=settings.shrink,
        strict=settings.strict,
        isolation=settings.isolation,
        timeout=settings.timeout,
        memory=settings.memory,
        replay=None if replay is None else given_case(replay, item.config.invocation_params.dir),
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _options(config: pytest.Config) -> list[str]:
    """The options that a command must repeat to run the same test again."""
    settings = config.stash[SETTINGS]
    options = [f"--ckptload-loader={name}" for name in settings.loaders]
    return options + [f"--ckptload-model={name}" for name in settings.models]


def _record(item: pytest.Item, report: Any) -> None:
    """Keep advice and notes for the summary: user properties go through xdist and into JUnit."""
    for note in report.notes:
        if ("ckptload_note", note) not in item.user_properties:
            item.user_properties.append(("ckptload_note", note))
    for finding in report.advice:
        line = f"{report.loader}: {finding}"
        if ("ckptload_advice", line) not in item.user_properties:
            item.user_properties.append(("ckptload_advice", line))
