"""A weight that a hook computes before each forward pass: a plain attribute until then."""

from __future__ import annotations

import warnings

from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def normed(size: int, by: str) -> nn.Module:
    """A linear layer whose weight is normalised by a hook."""
    module = nn.Linear(size, size, bias=False)
    with warnings.catch_warnings():
        # Deprecated, and in many a published model.
        warnings.simplefilter("ignore")
        return getattr(nn.utils, by)(module)  # type: ignore[no-any-return]


def _apply(plan: Plan, choose: Choose) -> None:
    by = choose(("weight_norm", "spectral_norm"))
    plan.add("normed", size=choose((1, 2, 3)), by=by)


FEATURE = Feature(
    name="weight-norm",
    of="module",
    sentence="A hook computes a weight before each forward pass from what the file holds.",
    references=("pytorch/pytorch#30754", "huggingface/transformers#31970"),
    apply=_apply,
    factories=(normed,),
)
