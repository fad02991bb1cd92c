"""The forms that an entry of a checkpoint may have: how its elements lie in memory.

Apart because each form is written down twice, as a function and as what a script says for it, and
the two must stay the same. A form leaves the values as they are, except ``expanded``, which can
have only one along its first dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["FORMS", "Form"]


@dataclass(frozen=True)
class Form:
    """``make`` gives a dense tensor the form, ``code`` is an expression that gives it to ``{0}``.

    ``fits`` says of which shapes and dtypes there are such tensors that are no dense ones.
    """

    make: Callable[[torch.Tensor], torch.Tensor]
    code: str
    fits: Callable[[tuple[int, ...], torch.dtype], bool]


def _transposed(dense: torch.Tensor) -> torch.Tensor:
    return dense.transpose(0, -1).contiguous().transpose(0, -1)


def _with_gaps(dense: torch.Tensor) -> torch.Tensor:
    # Not by torch.stack, which knows fewer dtypes.
    return dense[..., None].expand(*dense.shape, 2).contiguous()[..., 0]


def _number(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point and dtype.itemsize > 1


FORMS: Mapping[str, Form] = {
    "dense": Form(lambda dense: dense, "{0}", lambda shape, dtype: True),
    "transposed": Form(
        _transposed,
        "{0}.transpose(0, -1).contiguous().transpose(0, -1)",
        lambda shape, dtype: len(shape) > 1 and min(shape) > 0 and min(shape[0], shape[-1]) > 1,
    ),
    "channels-last": Form(
        lambda dense: dense.contiguous(memory_format=torch.channels_last),
        "{0}.contiguous(memory_format=torch.channels_last)",
        lambda shape, dtype: len(shape) == 4 and min(shape) > 1,
    ),
    "gaps": Form(
        _with_gaps,
        "(value := {0})[..., None].expand(*value.shape, 2).contiguous()[..., 0]",
        lambda shape, dtype: math.prod(shape) > 1,
    ),
    "expanded": Form(
        lambda dense: dense[:1].expand(dense.shape),
        "(value := {0})[:1].expand(value.shape)",
        lambda shape, dtype: math.prod(shape) > 1 and shape[0] > 1,
    ),
    "conjugated": Form(
        lambda dense: dense.conj_physical().conj(),
        "{0}.conj_physical().conj()",
        lambda shape, dtype: dtype.is_complex,
    ),
    "negated": Form(
        lambda dense: torch._neg_view(-dense),
        "torch._neg_view(-{0})",
        lambda shape, dtype: _number(dtype),
    ),
}
"""Every form by its name."""
