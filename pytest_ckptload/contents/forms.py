"""The forms that an entry of a checkpoint may have: how its elements lie in memory.

Apart because each form is written down twice, as a function and as what a script says for it, and
the two must stay the same. A form leaves the values as they are, except ``expanded``, which can
have only one along its first dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["FORMS", "Form"]


@dataclass(frozen=True)
class Form:
    """``make`` gives a dense tensor the form; ``code`` is an expression for ``{0}`` in it."""

    make: Callable[[torch.Tensor], torch.Tensor]
    code: str


def _transposed(dense: torch.Tensor) -> torch.Tensor:
    return dense.transpose(0, -1).contiguous().transpose(0, -1)


FORMS: Mapping[str, Form] = {
    "dense": Form(lambda dense: dense, "{0}"),
    "transposed": Form(_transposed, "{0}.transpose(0, -1).contiguous().transpose(0, -1)"),
    "channels-last": Form(
        lambda dense: dense.contiguous(memory_format=torch.channels_last),
        "{0}.contiguous(memory_format=torch.channels_last)",
    ),
    "gaps": Form(
        # Not by torch.stack, which knows fewer dtypes.
        lambda dense: dense[..., None].expand(*dense.shape, 2).contiguous()[..., 0],
        "(value := {0})[..., None].expand(*value.shape, 2).contiguous()[..., 0]",
    ),
    "expanded": Form(
        lambda dense: dense[:1].expand(dense.shape), "(value := {0})[:1].expand(value.shape)"
    ),
    "conjugated": Form(lambda dense: dense.conj_physical().conj(), "{0}.conj_physical().conj()"),
    "negated": Form(lambda dense: torch._neg_view(-dense), "torch._neg_view(-{0})"),
}
"""Every form by its name."""
