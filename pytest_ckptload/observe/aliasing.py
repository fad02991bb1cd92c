"""Which tensors have elements in common, by arithmetic on addresses, sizes and strides.

Apart because it is arithmetic and nothing else. A shared storage proves nothing: the columns of one
buffer interleave without touching, and so do the slices of a fused weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

__all__ = ["Overlap", "address_of", "is_dense", "overlaps", "overlaps_with_itself", "strides_of"]


@dataclass(frozen=True)
class Overlap:
    """Two tensors that have elements in common; ``same`` when they are the same elements."""

    names: tuple[str, str]
    same: bool


@dataclass(frozen=True)
class _Extent:
    """The bytes from a tensor's first element to behind its last, on one device."""

    name: str
    tensor: torch.Tensor
    start: int
    end: int


def strides_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """The strides that mean something: those of dimensions longer than one. Empty tensors: none."""
    if tensor.numel() == 0:
        return ()
    return tuple(
        stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1
    )


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements fill their extent without holes and without overlap, in any order."""
    if tensor.is_contiguous():
        return True
    expected = 1
    dimensions = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted((stride, size) for stride, size in dimensions if size > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def overlaps_with_itself(tensor: torch.Tensor) -> bool:
    """Whether two elements of the tensor share memory. Not of tensors without strides."""
    if tensor.layout != torch.strided or tensor.numel() < 2 or is_dense(tensor):
        return False
    reach = 0
    dimensions = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted((stride, size) for stride, size in dimensions if size > 1):
        if stride == 0:
            return True
        if stride <= reach:  # it may, as interleaved dimensions do, and need not
            starts, length = _runs(tensor, 0)
            return bool((starts.diff() < length).any())
        reach += (size - 1) * stride
    return False


def overlaps(tensors: Mapping[str, torch.Tensor]) -> dict[frozenset[str], Overlap]:
    """The pairs of ``tensors`` that have at least one element in common.

    Tensors without an address (meta, sparse, wrappers without storage) and without elements share
    nothing.
    """
    by_memory: dict[object, list[_Extent]] = {}
    for name, tensor in tensors.items():
        extent = _extent(name, tensor)
        if extent is not None:
            by_memory.setdefault(_memory(tensor), []).append(extent)
    found: dict[frozenset[str], Overlap] = {}
    for extents in by_memory.values():
        extents.sort(key=lambda extent: extent.start)
        open_extents: list[_Extent] = []
        for extent in extents:
            open_extents = [other for other in open_extents if other.end > extent.start]
            for other in open_extents:
                if _share_elements(other.tensor, extent.tensor):
                    names = (other.name, extent.name)
                    found[frozenset(names)] = Overlap(names, _same_elements(other, extent))
            open_extents.append(extent)
    return found


def address_of(tensor: torch.Tensor) -> int | None:
    """Where a tensor's first element is; ``None`` for one whose memory cannot be reached."""
    if tensor.layout != torch.strided:
        return None
    try:
        start = tensor.data_ptr()
        if start or not tensor.numel():
            return start
        # Elsewhere than on the CPU there may be no addresses, and still places in a storage.
        placed = tensor.device.type != "cpu" and tensor.untyped_storage().nbytes()
    except (NotImplementedError, RuntimeError):  # a wrapper without storage of its own
        return None
    return int(tensor.storage_offset()) * tensor.element_size() if placed else None


def _memory(tensor: torch.Tensor) -> object:
    """What the addresses of a tensor are addresses in: its device, or where that has none, its
    storage.
    """
    if tensor.data_ptr():
        return tensor.device
    return tensor.device, tensor.untyped_storage()._cdata


def _extent(name: str, tensor: torch.Tensor) -> _Extent | None:
    if tensor.is_meta or tensor.layout != torch.strided or tensor.numel() == 0:
        return None
    start = address_of(tensor)
    if start is None:
        return None
    last = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return _Extent(name, tensor, start, start + (last + 1) * tensor.element_size())


def _same_elements(left: _Extent, right: _Extent) -> bool:
    return (
        (left.start, left.end) == (right.start, right.end)
        and left.tensor.numel() == right.tensor.numel()
        and is_dense(left.tensor) == is_dense(right.tensor)
    )


def _share_elements(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two tensors whose extents meet share an element."""
    if is_dense(left) and is_dense(right):
        return True
    starts, length = _runs(left, address_of(left) or 0)
    other_starts, other_length = _runs(right, address_of(right) or 0)
    below = torch.searchsorted(other_starts, starts - other_length, right=True)
    above = torch.searchsorted(other_starts, starts + length, right=False)
    return bool((above > below).any())


def _runs(tensor: torch.Tensor, address: int) -> tuple[torch.Tensor, int]:
    """The addresses where the runs of adjacent bytes of a tensor at ``address`` start, sorted, and
    a run's length.
    """
    length = 1
    starts = torch.zeros(1, dtype=torch.int64, device="cpu")
    dimensions = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted((stride, size) for stride, size in dimensions if size > 1):
        if stride == 0:
            continue
        if stride == length and starts.numel() == 1:
            length *= size
        else:
            steps = torch.arange(size, dtype=torch.int64, device="cpu") * stride
            starts = (starts[:, None] + steps).reshape(-1)
    width = tensor.element_size()
    return starts.mul_(width).add_(address).sort().values, length * width
