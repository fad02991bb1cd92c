"""Tensors at random: every dtype that ``torch.save`` takes, in every form.

Apart from the cases because these are live tensors, for tests that know nothing of checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.contents import FORMS, tensor_of, value_kinds
from pytest_ckptload.dtypes import FILLED, PACKED, known, named
from pytest_ckptload.strategies.arguments import check_names

__all__ = ["tensors"]

_MOST_DIMENSIONS = 4
_MOST_PER_DIMENSION = 3
_MOST_VALUES = 3


def tensors(
    dtypes: Sequence[torch.dtype] | None = None,
    *,
    shapes: st.SearchStrategy[tuple[int, ...]] | Sequence[tuple[int, ...]] | None = None,
    forms: Sequence[str] | None = None,
    values: Sequence[str] | None = None,
) -> st.SearchStrategy[torch.Tensor]:
    """Strategy for CPU tensors, with contents that a loader cannot guess.

    ``dtypes`` are those to choose from, left out all that ``torch.save`` takes and torch prints (a
    float4 has to be asked for); ``shapes`` too, or
    a strategy for them, left out up to four dimensions of up to three. ``forms`` say how elements
    lie in memory (``"dense"``, ``"transposed"``, ``"gaps"``, ``"expanded"``, ``"conjugated"``, …;
    those that a tensor cannot have are not tried on it), ``values`` which kinds of value are put
    in (``"nan-payload"``, ``"negative-zero"``, ``"denormal"``, …; ``()`` for none).

    Tensors shrink to a dense one of the first dtype and shape, with plain contents.

    Raises ``InvalidArgument`` for an argument that is not what it must be.
    """
    if dtypes is None:
        dtypes = [d for d in map(named, known(FILLED)) if d not in PACKED]
    savable = {named(name) for name in known(FILLED)}
    if not isinstance(dtypes, list | tuple) or not dtypes or not set(dtypes) <= savable:
        raise InvalidArgument(f"dtypes={dtypes!r}: expected a list of dtypes that torch.save takes")
    if shapes is None:
        shapes = st.lists(st.integers(0, _MOST_PER_DIMENSION), max_size=_MOST_DIMENSIONS).map(tuple)
    elif not isinstance(shapes, st.SearchStrategy):
        if not isinstance(shapes, list | tuple) or not _are_shapes(shapes):
            raise InvalidArgument(f"shapes={shapes!r}: expected a list of tuples, or a strategy")
        shapes = st.sampled_from(list(shapes))
    check_names("forms", forms if forms is not None else (), FORMS)
    kinds = {kind for dtype in savable for kind in value_kinds(dtype)}
    check_names("values", values if values is not None else (), sorted(kinds))
    return _tensor(tuple(dtypes), shapes, _or_none(forms), _or_none(values))


def _are_shapes(shapes: Sequence[Any]) -> bool:
    return bool(shapes) and all(
        isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape)
        for shape in shapes
    )


def _or_none(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _draw_tensor(
    draw: st.DrawFn,
    dtypes: tuple[torch.dtype, ...],
    shapes: st.SearchStrategy[tuple[int, ...]],
    forms: tuple[str, ...] | None = None,
    values: tuple[str, ...] | None = None,
) -> torch.Tensor:
    def choose(options: Sequence[Any]) -> Any:
        return options[draw(st.integers(0, len(options) - 1))]

    dtype, shape = choose(dtypes), draw(shapes)
    fitting = [f for f in FORMS if FORMS[f].fits(shape, dtype) and (forms is None or f in forms)]
    kinds = [k for k in value_kinds(dtype) if values is None or k in values]
    size = torch.Size(shape).numel()
    placed: list[tuple[int, str]] = []
    if kinds and size:
        for _ in range(draw(st.integers(0, _MOST_VALUES))):
            placed.append((draw(st.integers(0, size - 1)), choose(kinds)))
    form = choose(fitting) if fitting else "dense"
    spec = TensorSpec(values=tuple(placed), form=form)
    return tensor_of(spec, shape, dtype, draw(st.integers(0, 99)))


_draw_tensor.__name__ = "tensors"  # the strategy prints as the call that made it
_tensor = st.composite(_draw_tensor)
