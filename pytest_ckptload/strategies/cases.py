"""Cases at random: those of the checks, and the public strategies for cases and their halves.

Structure is drawn and contents are filled, so that a case costs few draws. Apart from the zoo,
which says what there is to draw from and knows nothing of Hypothesis.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from pytest_ckptload.case import Case, CheckpointSpec, ModuleSpec
from pytest_ckptload.loader import Build
from pytest_ckptload.strategies.arguments import check_build, check_names
from pytest_ckptload.strategies.assembly import Code, Wish, assemble, selected
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.catalogue import CATALOGUE
from pytest_ckptload.zoo.structure import Structure, structure_of

__all__ = ["cases", "checkpoints", "modules", "random_cases", "state_dicts"]

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
    wanted = _named(features, "module", "checkpoint")
    check_names("without", without, FEATURES)
    check_names("always", always, FEATURES)
    return _case(wanted, tuple(without), tuple(always))


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
        return _module(_named(features, "module"))
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
    return _checkpoint(build, _named(features, "checkpoint"))


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
        return _state_dict_of(build, _named(features, "checkpoint"))
    return _state_dict(_named(features, "module", "checkpoint"))


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
    for names in (features or (), without, always):
        check_names("features", names, FEATURES)
    given = None if features is None else tuple(features)
    return _case(given, tuple(without), tuple(always), structure)


def _named(features: Sequence[str] | None, *of: str) -> tuple[str, ...]:
    if features is None:
        return tuple(n for n, f in FEATURES.items() if f.of in of and f.ordinary())
    fitting = {name: f for name, f in FEATURES.items() if f.of in of}
    check_names("features", features, fitting)
    return tuple(features)


def _draw_case(
    draw: st.DrawFn,
    features: tuple[str, ...] | None,
    without: tuple[str, ...] = (),
    always: tuple[str, ...] = (),
    structure: Structure | None = None,
) -> Case:
    def code(number: int | None = None) -> Code:
        first = draw(_CODES) if number is None else number
        return Code(first, lambda below: draw(st.integers(0, below - 1)))

    some = selected(features, without, of_module=structure is None)
    fixed = selected(always, of_module=structure is None) if always else []
    wishes = {feature.name: Wish(feature, code()) for feature in fixed}
    if some:
        for index, number in draw(_several(len(some), _MOST_FEATURES)):
            wishes.setdefault(some[index].name, Wish(some[index], code(number)))
    special = draw(_ONE_IN_THREE)
    on = [*wishes.values()]
    if structure is not None:
        return assemble(on, structure, special=code() if special else None)
    leaves = [
        _LEAVES[index].spec(code(number))
        for index, number in draw(_several(len(_LEAVES), _MOST_LEAVES))
    ]
    container = _CONTAINERS[draw(_CONTAINER)] if len(leaves) > 1 else ""
    return assemble(on, leaves=leaves, container=container, special=code() if special else None)


@functools.cache
def _several(options: int, most: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """A few of so many options, and a code for what each leaves to choose."""
    return st.lists(st.tuples(st.integers(0, options - 1), _CODES), max_size=most)


def _draw_module(draw: st.DrawFn, features: tuple[str, ...]) -> ModuleSpec:
    module = _draw_case(draw, features).module
    assert module is not None
    return module


def _draw_module_of(draw: st.DrawFn, classes: tuple[str, ...]) -> ModuleSpec:
    name = classes[draw(st.integers(0, len(classes) - 1))]
    return CATALOGUE[name].spec(Code(draw(_CODES), lambda below: draw(st.integers(0, below - 1))))


def _draw_checkpoint(draw: st.DrawFn, build: Build, features: tuple[str, ...]) -> CheckpointSpec:
    return _draw_case(draw, features, structure=structure_of(build())).checkpoint


def _draw_state_dict_of(
    draw: st.DrawFn, build: Build, features: tuple[str, ...]
) -> OrderedDict[str, Any]:
    module = build()
    case = _draw_case(draw, features, structure=structure_of(module))
    return case.checkpoint.state_dict(module)


def _draw_state_dict(draw: st.DrawFn, features: tuple[str, ...]) -> OrderedDict[str, Any]:
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
