"""Sparse tensors: the values that are stored, and the same tensor with others.

Apart because it is about layouts and nothing else. What a file has in a sparse tensor's place has
the module's own indices: which elements are stored is structure, not contents.
"""

from __future__ import annotations

import torch

__all__ = ["indices_of", "values_of", "with_values"]

_BY_ROWS = (torch.sparse_csr, torch.sparse_bsr)
_COMPRESSED = (*_BY_ROWS, torch.sparse_csc, torch.sparse_bsc)


def indices_of(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The tensors that say which elements a sparse tensor stores: none for any other."""
    if tensor.layout == torch.sparse_coo:
        return (tensor._indices(),)
    if tensor.layout in _BY_ROWS:
        return tensor.crow_indices(), tensor.col_indices()
    if tensor.layout in _COMPRESSED:
        return tensor.ccol_indices(), tensor.row_indices()
    return ()


def values_of(tensor: torch.Tensor) -> torch.Tensor:
    """The values that a sparse tensor stores; any other tensor itself."""
    tensor = tensor.detach()
    if tensor.layout == torch.sparse_coo:
        return tensor._values()
    return tensor.values() if tensor.layout in _COMPRESSED else tensor


def with_values(like: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """A tensor of the layout, shape and indices of ``like`` on CPU, with these values."""
    indices, shape, layout = (
        [index.cpu().contiguous() for index in indices_of(like)],
        like.shape,
        like.layout,
    )
    if layout == torch.sparse_coo:
        coalesced = like.is_coalesced()
        return torch.sparse_coo_tensor(indices[0], values, shape, is_coalesced=coalesced)
    if layout in _COMPRESSED:
        return torch.sparse_compressed_tensor(indices[0], indices[1], values, shape, layout=layout)
    return values
