"""What a fault is, the ways to write one down, and the one place where all of them are registered.

Apart from the faults so that each of their files is a list of them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pytest_ckptload.loader import Inputs
from pytest_ckptload.recipes import eager, eager_resume

__all__ = ["DEADLY", "FAULTS", "Fault", "after", "around", "loader", "model", "resumer", "writer"]

Function = TypeVar("Function", bound=Callable[..., Any])
Mutate = Callable[[Callable[..., Any]], Callable[..., Any]]

DEADLY = ("CKPT801", "CKPT802", "CKPT808")
"""The rules whose faults take a worker to be survived."""


@dataclass(frozen=True)
class Fault:
    """A broken loader (or resumer, with ``training``), the rule that must catch it, and a sibling
    that is as close to it as can be and correct.

    ``references`` are the bugs that it re-enacts, ``features`` those of a case that it shows in.
    ``given`` are further arguments of a check, ``right`` those of the sibling's alone: so a broken
    module or checkpoint has a loader that is right. ``promises`` are those under which
    it is a fault at all; ``advice`` says that the rule only advises. ``beyond`` are the features
    that the sibling gets wrong, too. ``limits`` bound what a load may take, where it takes too
    much. ``elsewhere`` says that it takes a device other than the CPU.

    ``mutate`` breaks any other of what it ``breaks`` (``"loader"``, ``"resumer"``) in the same way.
    """

    code: str
    name: str
    sentence: str
    references: tuple[str, ...]
    broken: Callable[..., Any]
    sibling: Callable[..., Any]
    features: tuple[str, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    right: Mapping[str, Any] = field(default_factory=dict)
    promises: tuple[str, ...] = ()
    training: bool = False
    advice: bool = False
    beyond: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    breaks: tuple[str, ...] = ()
    mutate: Mutate | None = None
    elsewhere: bool = False


# What the fast recipes, which assign, get wrong with any module.
_ASSIGNED = ("expanded", "parameters-saved", "views")

FAULTS: dict[str, Fault] = {}
"""Every fault by its name."""


def _register(code: str, made: Callable[..., Any], references: tuple[str, ...], **more: Any) -> Any:
    name = made.__name__
    if name in FAULTS:
        raise ValueError(f"there is a fault {name} already")
    sentence = " ".join((inspect.getdoc(made) or "").split())
    FAULTS[name] = Fault(code, name, sentence, references, **more)
    return made


def loader(
    code: str, *references: str, sibling: Callable[..., Any] = eager, **more: Any
) -> Callable[[Function], Function]:
    """The decorated ``load(build, path, device)`` is a broken loader."""

    def register(broken: Function) -> Function:
        return _register(code, broken, references, broken=broken, sibling=sibling, **more)  # type: ignore[no-any-return]

    return register


def resumer(
    code: str, *references: str, sibling: Callable[..., Any] = eager_resume, **more: Any
) -> Callable[[Function], Function]:
    """The decorated ``resume(build, make_optimizer, path, device)`` is a broken resumer."""
    return loader(code, *references, sibling=sibling, training=True, **more)


def around(
    code: str, *references: str, right: Callable[..., Any] | None = None, **more: Any
) -> Callable[[Function], Function]:
    """The decorated ``function(load, build, path, device)`` breaks any loader; ``right`` is such a
    function that breaks none.
    """

    def register(broken: Function) -> Function:
        mutate = functools.partial(_around, broken)
        sibling = eager if right is None else _of_eager(_around, right)
        more.update(broken=mutate(eager), sibling=sibling, breaks=("loader",), mutate=mutate)
        return _register(code, broken, references, **more)  # type: ignore[no-any-return]

    return register


def after(
    code: str, *references: str, right: Callable[..., Any] | None = None, **more: Any
) -> Callable[[Function], Function]:
    """The decorated ``function(module)`` breaks whatever module was loaded; ``right`` is such a
    function that leaves it right. With ``training`` both take ``(module, optimizer)``.
    """
    wrap, base = (_after_resume, eager_resume) if more.get("training") else (_after, eager)

    def register(broken: Function) -> Function:
        mutate = functools.partial(wrap, broken)
        sibling = base if right is None else _of_eager(wrap, right)
        breaks = ("resumer",) if more.get("training") else ("loader", "resumer")
        more.update(broken=mutate(base), sibling=sibling, breaks=breaks, mutate=mutate)
        return _register(code, broken, references, **more)  # type: ignore[no-any-return]

    return register


def model(
    code: str,
    *references: str,
    right: Callable[..., Any],
    load: Callable[..., Any],
    inputs: Inputs | None = None,
    **more: Any,
) -> Callable[[Function], Function]:
    """The decorated class is of modules that ``load`` does not load, for all that it loads those of
    the class ``right``. ``inputs`` make what both can be called with.
    """

    def register(broken: Function) -> Function:
        given: dict[str, Any] = {
            "given": {"build": broken, "inputs": inputs},
            "right": {"build": right},
            "beyond": _ASSIGNED,
        }
        return _register(code, broken, references, broken=load, sibling=load, **given, **more)  # type: ignore[no-any-return]

    return register


def writer(
    code: str, *references: str, right: Callable[..., Any], build: Callable[..., Any], **more: Any
) -> Callable[[Function], Function]:
    """The decorated ``save(module, path)`` writes a broken checkpoint of what ``build`` makes,
    while that of ``right`` is whole.
    """

    def register(broken: Function) -> Function:
        load = more.pop("load", eager)
        given = {"build": build, "save": broken}, {"build": build, "save": right}
        return _register(  # type: ignore[no-any-return]
            code,
            broken,
            references,
            broken=load,
            sibling=load,
            given=given[0],
            right=given[1],
            **more,
        )

    return register


@functools.cache
def _of_eager(
    wrap: Callable[..., Callable[..., Any]], right: Callable[..., Any]
) -> Callable[..., Any]:
    """One function for all faults with this sibling, so that it can be tried once."""
    return wrap(right, eager_resume if wrap is _after_resume else eager)


def _around(function: Callable[..., Any], load: Callable[..., Any]) -> Callable[..., Any]:
    def mutant(*arguments: Any) -> Any:
        return function(load, *arguments)

    return _named(mutant, function)


def _after(function: Callable[..., Any], load: Callable[..., Any]) -> Callable[..., Any]:
    def mutant(*arguments: Any) -> Any:
        loaded = load(*arguments)
        function(loaded[0] if isinstance(loaded, tuple | list) else loaded)
        return loaded

    return _named(mutant, function)


def _after_resume(function: Callable[..., Any], load: Callable[..., Any]) -> Callable[..., Any]:
    def mutant(*arguments: Any) -> Any:
        loaded = load(*arguments)
        function(*loaded)
        return loaded

    return _named(mutant, function)


def _named(mutant: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    mutant.__name__ = function.__name__
    return mutant
