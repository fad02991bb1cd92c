"""The bytes of tensors: whether they are the same, and where the first difference is.

Apart because everything else may compare names and flags, but bytes are compared here and nowhere
else: never as values, for ``==`` takes ``-0.0`` for ``0.0`` and no NaN for itself.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pytest_ckptload.machine.dtypes import PACKED
from pytest_ckptload.observe.aliasing import is_dense

__all__ = [
    "Difference",
    "first_difference",
    "is_poison",
    "opaque",
    "plain",
    "same_bits",
    "same_but_nan",
    "same_tensor",
]

# Bytes that are brought over from another device at a time.
_PIECE = 1 << 26

_COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)

_memcmp: Callable[[int, int, int], int] = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
)(("memcmp", ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)))


@dataclass(frozen=True)
class Difference:
    """Where two tensors of one shape and dtype differ.

    ``index`` is that of the first element that differs, in row-major order, and ``actual`` and
    ``expected`` are its value and bytes, most significant first.
    """

    count: int
    total: int
    index: tuple[int, ...]
    actual: str
    expected: str

    def __str__(self) -> str:
        at = f"[{', '.join(map(str, self.index))}]" if self.index else "the only element"
        many = f"{self.count} of {self.total} elements differ"
        return f"{many}, first at {at}: {self.actual}, expected {self.expected}"


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's logical contents as a strided plain tensor outside autograd.

    Conjugation and negation are resolved, subclasses stripped, sparse tensors made dense.
    """
    with torch._C.DisableTorchFunctionSubclass():
        tensor = tensor.detach()
        if tensor.layout != torch.strided:
            with torch.inference_mode(tensor.is_inference()):  # outside, some layouts raise
                return tensor.to_dense()
        if tensor.is_quantized:
            return tensor.int_repr()
        return tensor.resolve_conj().resolve_neg()


def opaque(tensor: torch.Tensor) -> str | None:
    """What a tensor is whose contents nobody can read, or that has no strides; ``None`` for all
    others.
    """
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout in _COMPRESSED and (held := tensor.values().dtype) != tensor.dtype:
        # Giving a tensor of another dtype to its `data` leaves the old values in it.
        return f"a tensor of {tensor.dtype} that holds values of {held}"
    fake = sys.modules.get("torch._subclasses.fake_tensor")
    return "a fake tensor" if fake is not None and isinstance(tensor, fake.FakeTensor) else None


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two tensors of one shape and dtype hold the same logical bytes, on any devices."""
    left, right = plain(left), plain(right)
    if left.numel() == 0:
        return True
    if left.device != right.device:
        left, right = left.cpu(), right.cpu()
    if left.stride() == right.stride() and is_dense(left):
        left, right = _in_memory_order(left), _in_memory_order(right)
    else:
        left, right = (_in_memory_order(tensor.contiguous()) for tensor in (left, right))
    return _equal(left, right)


def same_tensor(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two tensors have one dtype, one shape and the same logical bytes, which on meta none
    has.
    """
    if left is right:
        return True
    if left.is_meta or right.is_meta:
        return False
    left, right = plain(left), plain(right)
    return (left.dtype, left.shape) == (right.dtype, right.shape) and same_bits(left, right)


def _in_memory_order(tensor: torch.Tensor) -> torch.Tensor:
    # A tensor of one element is contiguous whatever its stride, and then not to be viewed as bytes.
    return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Compare two flat tensors on one device. On CPU by memcmp: on one thread, torch.equal over
    integers as wide as the alignment allows has little more than half its speed.
    """
    if left.device.type != "cpu":
        return _equal_elsewhere(left.view(torch.uint8), right.view(torch.uint8))
    addresses = left.data_ptr(), right.data_ptr()
    if not all(addresses):  # wrappers without memory of their own
        return torch.equal(left, right)
    return _memcmp(*addresses, left.numel() * left.element_size()) == 0


def _equal_elsewhere(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Compare two flat tensors of bytes where they are, or where their device cannot, on the CPU, a
    piece at a time.
    """
    try:
        return torch.equal(left, right)
    except NotImplementedError:
        pieces = (slice(start, start + _PIECE) for start in range(0, left.numel(), _PIECE))
        return all(torch.equal(left[piece].cpu(), right[piece].cpu()) for piece in pieces)


def _nan(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_complex() or not tensor.dtype.is_floating_point:
        return tensor != tensor
    if tensor.element_size() == 1:
        tensor = tensor.float()
    return tensor.isnan()


def same_but_nan(left: torch.Tensor, right: torch.Tensor) -> bool:
    """As ``same_bits``, but any NaN equals any NaN: for values that were converted."""
    if same_bits(left, right):
        return True
    if left.dtype in PACKED or not (left.dtype.is_floating_point or left.dtype.is_complex):
        return False
    left, right = plain(left).cpu(), plain(right).cpu()
    if left.dtype.is_complex:
        left, right = torch.view_as_real(left), torch.view_as_real(right)
    unlike = ~_elements_equal(left, right)
    return bool((_nan(left) & _nan(right))[unlike].all())


def _elements_equal(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Element by element, over CPU tensors of one shape and dtype: the same bytes or not."""
    size = left.element_size()
    left_bytes = _in_memory_order(left.contiguous()).view(torch.uint8).view(-1, size)
    right_bytes = _in_memory_order(right.contiguous()).view(torch.uint8).view(-1, size)
    return (left_bytes == right_bytes).all(1).view(left.shape)


def first_difference(actual: torch.Tensor, expected: torch.Tensor) -> Difference | None:
    """Where ``actual`` first differs from ``expected``, both of one shape and dtype."""
    actual, expected = plain(actual).cpu(), plain(expected).cpu()
    if not actual.numel():
        return None
    unlike = ~_elements_equal(actual, expected)
    count = int(unlike.sum())
    if not count:
        return None
    flat = int(unlike.view(-1).to(torch.uint8).argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), actual.shape))
    return Difference(count, actual.numel(), index, _show(actual, flat), _show(expected, flat))


def _show(tensor: torch.Tensor, flat: int) -> str:
    element = _in_memory_order(tensor.contiguous())[flat : flat + 1]
    pattern = bytes(reversed(element.view(torch.uint8).tolist())).hex()
    try:
        value = str(element.item())
    except (RuntimeError, NotImplementedError):  # packed dtypes have no Python value
        return f"0x{pattern}"
    return f"{value} (0x{pattern})"


def is_poison(tensor: torch.Tensor) -> bool:
    """Whether every element is what torch fills uninitialised memory with while loads run.

    That is NaN, or the greatest integer. Of bool and packed dtypes it cannot be told.
    """
    if tensor.numel() == 0 or tensor.is_meta:
        return False
    if tensor.dtype == torch.bool or tensor.dtype in PACKED:
        return False
    tensor = plain(tensor)
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        return bool(_nan(tensor).all())
    return same_bits(tensor, torch.full_like(tensor, torch.iinfo(tensor.dtype).max))
