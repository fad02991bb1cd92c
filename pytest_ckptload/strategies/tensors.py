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
from pytest_ckptload.machine.dtypes import FILLED, PACKED, known, named
from pytest_ckptload.strategies.arguments import check_names

__all__ = ["tensors"]

_MOST_VALUES = 3
_PRINTED = tuple(dtype for dtype in map(named, known(FILLED)) if dtype not in PACKED)
_KINDS = sorted({kind for name in known(FILLED) for kind in value_kinds(named(name))})
_SHAPES = st.lists(st.integers(0, 3), max_size=4).map(tuple)


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
    given: dict[str, Any] = {}
    if dtypes is not None:
        savable = {named(name) for name in known(FILLED)}
        if not isinstance(dtypes, list | tuple) or not dtypes or not set(dtypes) <= savable:
            raise InvalidArgument(
                f"dtypes={dtypes!r}: expected a list of dtypes that torch.save takes"
            )
        given["dtypes"] = tuple(dtypes)
    if isinstance(shapes, st.SearchStrategy):
        given["shapes"] = shapes
    elif shapes is not None:
        if not isinstance(shapes, list | tuple) or not _are_shapes(shapes):
            raise InvalidArgument(f"shapes={shapes!r}: expected a list of tuples, or a strategy")
        given["shapes"] = st.sampled_from(list(shapes))
    if forms is not None:
        check_names("forms", forms, FORMS)
        given["forms"] = tuple(forms)
    if values is not None:
        check_names("values", values, _KINDS)
        given["values"] = tuple(values)
    return _tensor(**given)


def _are_shapes(shapes: Sequence[Any]) -> bool:
    return bool(shapes) and all(
        isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape)
        for shape in shapes
    )


def _draw_tensor(
    draw: st.DrawFn,
    dtypes: tuple[torch.dtype, ...] = _PRINTED,
    shapes: st.SearchStrategy[tuple[int, ...]] = _SHAPES,
    forms: tuple[str, ...] | None = None,
    values: tuple[str, ...] | None = None,
) -> torch.Tensor:
    def choose(options: Sequence[Any]) -> Any:
        return options[draw(st.integers(0, len(options) - 1))]

    dtype, shape = choose(dtypes), draw(shapes)
    fitting = [f for f in FORMS if FORMS[f].fits(shape, dtype) and (forms is None or f in forms)]
    kinds = [k for k in value_kinds(dtype) if values is None or k in values]
    size = torch.Size(shape).numel()
    # Drawn for every dtype, so that a simpler one may take the place of another.
    count = draw(st.integers(0, _MOST_VALUES))
    placed = [
        (draw(st.integers(0, size - 1)), choose(kinds))
        for _ in range(count if kinds and size else 0)
    ]
    form = choose(fitting) if fitting else "dense"
    spec = TensorSpec(values=tuple(placed), form=form)
    return tensor_of(spec, shape, dtype, draw(st.integers(0, 99)))


_draw_tensor.__name__ = "tensors"  # the strategy prints as the call that made it
_tensor = st.composite(_draw_tensor)
