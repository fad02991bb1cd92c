"""A buffer that construction computes and the file holds with other values: the file's count."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Table(nn.Module):
    """A weight, and a table computed at construction and saved."""

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.register_buffer("table", torch.sin(torch.arange(size) * 9.0).mul(5).to(dtype))


def _apply(plan: Plan, choose: Choose) -> None:
    dtype = choose(("float32", "int64", "int32", "bool"))
    plan.add("Table", size=choose((2, 3)), dtype=dtype)


FEATURE = Feature(
    name="buffer-computed",
    of="module",
    sentence="A buffer is computed at construction and saved: the values in the file count.",
    references=("huggingface/transformers#24576", "huggingface/pytorch-image-models#2350"),
    apply=_apply,
    factories=(Table,),
)
