"""Cases at random: those of the checks, and the public strategies for cases and their halves.

Structure is drawn and contents are filled, so that a case costs few draws. Apart from the zoo,
which says what there is to draw from and knows nothing of Hypothesis.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from pytest_ckptload.case import Case, CheckpointSpec, ModuleSpec
from pytest_ckptload.loader import Build
from pytest_ckptload.strategies.arguments import check_build, check_names
from pytest_ckptload.strategies.assembly import Code, Wish, assemble, selected
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.catalogue import CATALOGUE
from pytest_ckptload.zoo.feature import Choose
from pytest_ckptload.zoo.structure import Structure, structure_of

__all__ = ["cases", "checkpoints", "modules", "random_cases", "state_dicts"]

T = TypeVar("T")

_OF_CASES = ("module", "checkpoint")
_MOST_FEATURES = 5
_MOST_LEAVES = 3
_LEAVES = tuple(entry for entry in CATALOGUE.values() if not entry.slow)
_CONTAINERS = ("", "ModuleList", "ModuleDict", "Sequential")

_CODES = st.integers(0, Code.LIMIT - 1)
_CONTAINER = st.integers(0, len(_CONTAINERS) - 1)
_ONE_IN_THREE = st.sampled_from((False, False, True))


def cases(
    *,
    features: Sequence[str] | None = None,
    without: Sequence[str] = (),
    always: Sequence[str] = (),
) -> st.SearchStrategy[Case]:
    """Strategy for cases, as data: ``case.build()`` makes the module, ``case.save(path)`` writes
    the checkpoint.

    A random few of the ``features`` are on: left out, those of all files that the eager recipe
    loads and ``torch.save`` writes by itself. Those in ``always`` are in every case that they go
    with. Cases shrink to one small module with plain contents.

    Raises ``InvalidArgument`` for a name that is none.
    """
    check_names("without", without, FEATURES)
    check_names("always", always, FEATURES)
    chosen = {"without": tuple(without), "always": tuple(always)}
    named: dict[str, Any] = {name: names for name, names in chosen.items() if names}
    return _case(**_named(features, *_OF_CASES), **named)


def modules(
    classes: Sequence[str] | None = None, *, features: Sequence[str] | None = None
) -> st.SearchStrategy[ModuleSpec]:
    """Strategy for modules, as data: ``.build()`` makes one.

    With ``classes``, names of ``torch.nn``, it is one of these with random arguments. Left out, it
    is a module of a few of them, with a random few of the ``features``. Modules shrink to the first
    class with its simplest arguments.

    Raises ``InvalidArgument`` for a name that is none.
    """
    if classes is None:
        return _module(**_named(features, "module"))
    check_names("classes", classes, CATALOGUE, least=1)
    return _module_of(tuple(classes))


def checkpoints(
    build: Build, *, features: Sequence[str] | None = None
) -> st.SearchStrategy[CheckpointSpec]:
    """Strategy for checkpoints of the module that ``build()`` makes, as data: ``.save(module,
    path)`` writes one, ``.state_dict(module)`` is what it holds.

    A random few of the ``features`` are on: left out, those of all files that the eager recipe
    loads and ``torch.save`` writes by itself. Checkpoints shrink to a plain one.

    Raises ``InvalidArgument`` for a name that is none, or a ``build`` that makes no module.
    """
    check_build(build)
    return _checkpoint(build=build, **_named(features, "checkpoint"))


def state_dicts(
    build: Build | None = None, *, features: Sequence[str] | None = None
) -> st.SearchStrategy[OrderedDict[str, Any]]:
    """Strategy for state dicts of the module that ``build()`` makes, or of random modules.

    Tensors are on the CPU, each with contents unlike every other's and unlike those of the module.
    ``features`` are as for ``checkpoints``, or ``cases``.

    Raises ``InvalidArgument`` for a name that is none, or a ``build`` that makes no module.
    """
    if build is not None:
        check_build(build)
        return _state_dict_of(build=build, **_named(features, "checkpoint"))
    return _state_dict(**_named(features, *_OF_CASES))


def random_cases(
    *,
    features: Sequence[str] | None = None,
    without: Sequence[str] = (),
    always: Sequence[str] = (),
    structure: Structure | None = None,
) -> st.SearchStrategy[Case]:
    """Strategy for the cases of a check: with all features there are, damage included.

    With a ``structure`` the cases are checkpoints for that module, and have none of their own.
    """
    check_names("features", features or (), FEATURES)
    given = tuple(FEATURES if features is None else features)
    return _case(given, tuple(without), tuple(always), structure)


def _named(features: Sequence[str] | None, *of: str) -> dict[str, Any]:
    """The features as an argument, where they were given: what is left out is not printed."""
    if features is None:
        return {}
    check_names("features", features, {name: f for name, f in FEATURES.items() if f.of in of})
    return {"features": tuple(features)}


def _ordinary(*of: str) -> tuple[str, ...]:
    return tuple(name for name, f in FEATURES.items() if f.of in of and f.ordinary())


def _draw_case(
    draw: st.DrawFn,
    features: tuple[str, ...] | None = None,
    without: tuple[str, ...] = (),
    always: tuple[str, ...] = (),
    structure: Structure | None = None,
) -> Case:
    features = _ordinary(*_OF_CASES) if features is None else features
    some = selected(features, without, of_module=structure is None)
    fixed = selected(always, of_module=structure is None) if always else []
    wishes = {feature.name: Wish(feature, _code(draw)) for feature in fixed}
    if some:
        for index, number in draw(_several(len(some), _MOST_FEATURES)):
            wishes.setdefault(some[index].name, Wish(some[index], _code(draw, number)))
    special = _one_by_one(draw) if draw(_ONE_IN_THREE) else None
    on = [*wishes.values()]
    if structure is not None:
        return assemble(on, structure, special=special)
    leaves = [
        _LEAVES[index].spec(_code(draw, number))
        for index, number in draw(_several(len(_LEAVES), _MOST_LEAVES))
    ]
    container = _CONTAINERS[draw(_CONTAINER)] if len(leaves) > 1 else ""
    return assemble(on, leaves=leaves, container=container, special=special)


def _one_by_one(draw: st.DrawFn) -> Choose:
    """What chooses with a draw for each choice: so that one does not change with the others."""

    def choose(options: Sequence[T], /) -> T:
        return options[draw(st.integers(0, len(options) - 1))]

    return choose


def _code(draw: st.DrawFn, number: int | None = None) -> Code:
    """What chooses by this number, or by one that is drawn, and draws more where it needs them."""
    first = draw(_CODES) if number is None else number
    return Code(first, lambda below: draw(st.integers(0, below - 1)))


@functools.cache
def _several(options: int, most: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """A few of so many options, and a code for what each leaves to choose."""
    return st.lists(st.tuples(st.integers(0, options - 1), _CODES), max_size=most)


def _draw_module(draw: st.DrawFn, features: tuple[str, ...] | None = None) -> ModuleSpec:
    module = _draw_case(draw, _ordinary("module") if features is None else features).module
    assert module is not None
    return module


def _draw_module_of(draw: st.DrawFn, classes: tuple[str, ...]) -> ModuleSpec:
    name = classes[draw(st.integers(0, len(classes) - 1))]
    return CATALOGUE[name].spec(_code(draw))


def _draw_checkpoint(
    draw: st.DrawFn, build: Build, features: tuple[str, ...] | None = None
) -> CheckpointSpec:
    return _draw_case(draw, features, structure=structure_of(build())).checkpoint


def _draw_state_dict_of(
    draw: st.DrawFn, build: Build, features: tuple[str, ...] | None = None
) -> OrderedDict[str, Any]:
    module = build()
    case = _draw_case(draw, features, structure=structure_of(module))
    return case.checkpoint.state_dict(module)


def _draw_state_dict(
    draw: st.DrawFn, features: tuple[str, ...] | None = None
) -> OrderedDict[str, Any]:
    case = _draw_case(draw, features)
    return case.checkpoint.state_dict(case.build())


# Strategies print as the calls that made them.
_draw_case.__name__ = "cases"
_draw_module.__name__ = _draw_module_of.__name__ = "modules"
_draw_checkpoint.__name__ = "checkpoints"
_draw_state_dict.__name__ = _draw_state_dict_of.__name__ = "state_dicts"
_case = st.composite(_draw_case)
_module, _module_of = st.composite(_draw_module), st.composite(_draw_module_of)
_checkpoint = st.composite(_draw_checkpoint)
_state_dict, _state_dict_of = st.composite(_draw_state_dict), st.composite(_draw_state_dict_of)
