"""A sparse buffer: its elements have no place in memory of their own."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Sparse(nn.Module):
    """A weight, and a diagonal matrix as a sparse buffer."""

    def __init__(self, size: int, layout: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        values, columns = torch.ones(size), torch.arange(size)
        with warnings.catch_warnings():
            # Once in each process: invariants go unchecked, and CSR is a beta.
            warnings.simplefilter("ignore")
            if layout == "coo":
                matrix = torch.sparse_coo_tensor(columns.expand(2, size), values, (size, size))
            else:
                rows = torch.arange(size + 1)
                matrix = torch.sparse_csr_tensor(rows, columns, values, (size, size))
        self.register_buffer("matrix", matrix)


def _apply(plan: Plan, choose: Choose) -> None:
    plan.add("Sparse", size=choose((1, 2, 3)), layout=choose(("coo", "csr")))


FEATURE = Feature(
    name="sparse-buffer",
    of="module",
    sentence="A buffer is sparse, in the COO or the CSR layout.",
    references=("pytorch/pytorch#134953", "pytorch/pytorch#130792"),
    apply=_apply,
    factories=(Sparse,),
)
