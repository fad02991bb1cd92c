"""What a checkpoint of a module holds: a ``CheckpointSpec`` made real, as a state dict.

Apart from ``case`` because this half needs torch, and from ``zoo`` because it serves any module, a
user's own included.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import CheckpointSpec, TensorSpec, View
from pytest_ckptload.contents.forms import FORMS
from pytest_ckptload.contents.patterns import INTEGERS, fill
from pytest_ckptload.contents.sparse import values_of, with_values
from pytest_ckptload.contents.values import put
from pytest_ckptload.machine.dtypes import named
from pytest_ckptload.zoo.structure import Slot, Structure

__all__ = ["dtypes_in", "state_of", "tensor_of"]


def state_of(
    module: nn.Module, structure: Structure, spec: CheckpointSpec
) -> OrderedDict[str, Any]:
    """What the checkpoint of ``module`` holds: a state dict with its ``_metadata``, on CPU.

    ``module`` is a fresh one, and stays as it is: the pattern of a tensor is moved on when it would
    repeat what construction gave, or what another small tensor holds.
    """
    original = module.state_dict()
    filled = _Filler(original).fill_all(structure, spec)
    for view in spec.views:
        _make_views(filled, view)
    state: OrderedDict[str, Any] = OrderedDict()
    met: set[int] = set()
    for name, value in original.items():
        if name not in spec.missing:
            entry = filled.get(name, spec.objects.get(name, value))
            if id(entry) in met and type(entry) is torch.Tensor:
                # As in every state dict: one storage, and a tensor for each name.
                entry = entry.detach()
            state[name] = entry
            met.add(id(entry))
    for index, (name, tensor) in enumerate(spec.extra.items()):
        state[name] = tensor_of(tensor, (2,), torch.float32, 1000 + index)
    for name, old in spec.renamed.items():
        state[old] = state.pop(name)
    if spec.metadata and hasattr(original, "_metadata"):
        state._metadata = original._metadata  # type: ignore[attr-defined]
        for path, version in spec.versions.items():
            state._metadata[path]["version"] = version  # type: ignore[attr-defined]
    if spec.order != "module":
        for name in sorted(state) if spec.order == "sorted" else list(reversed(state)):
            state.move_to_end(name)
    return state


def tensor_of(
    spec: TensorSpec, shape: tuple[int, ...], dtype: torch.dtype, index: int
) -> torch.Tensor:
    """A CPU tensor as ``spec`` has it: of this shape and dtype where it does not say, filled with
    the ``index``-th pattern.
    """
    return _formed(spec, _dense(spec, shape, dtype, index))


def dtypes_in(state: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the dtypes of a state dict's tensors, each once."""
    held = {value.dtype for value in state.values() if isinstance(value, torch.Tensor)}
    return tuple(sorted(str(dtype).removeprefix("torch.") for dtype in held))


class _Filler:
    """Fills slots with patterns, none of them met before."""

    def __init__(self, original: Mapping[str, Any]) -> None:
        self.original = original
        self.dense: dict[str, torch.Tensor] = {}
        self.small: set[tuple[object, ...]] = set()
        self.index = 0

    def fill_all(self, structure: Structure, spec: CheckpointSpec) -> dict[str, torch.Tensor]:
        filled: dict[str, torch.Tensor] = {}
        for slot in structure.saved:
            if spec.ties != "differ" and slot.group in filled:
                twin, entry = filled[slot.group], spec.tensors.get(slot.name, TensorSpec())
                separate = spec.ties != "shared"
                filled[slot.name] = _formed(entry, self.dense[slot.group]) if separate else twin
            else:
                filled[slot.name] = self.fill_one(slot, spec.tensors.get(slot.name, TensorSpec()))
        for names in structure.woven:
            if not spec.tensors.keys() & set(names):
                self.weave(filled, names, shared=spec.ties == "shared")
        return filled

    def weave(self, filled: dict[str, torch.Tensor], names: Iterable[str], shared: bool) -> None:
        """Give tensors that overlap in the module contents that do not contradict each other: no
        file that was ever saved gives each a value of its own.
        """
        places = {name: self.original[name] for name in names}
        room = max(tensor.untyped_storage().nbytes() for tensor in places.values())
        storage = torch.zeros(room, dtype=torch.uint8, device="cpu").untyped_storage()
        views = {
            name: torch.empty(0, dtype=tensor.dtype, device="cpu").set_(
                storage, tensor.storage_offset(), tensor.shape, tensor.stride()
            )
            for name, tensor in places.items()
        }
        for name, view in views.items():
            view.copy_(filled[name])
        twins = {id(filled[name]): name for name in views}
        for name, tensor in filled.items():
            if (first := twins.get(id(tensor))) is not None:
                filled[name] = views[first] if shared else _contiguous(views[first])

    def fill_one(self, slot: Slot, spec: TensorSpec) -> torch.Tensor:
        initial = self.original[slot.name]
        if slot.kind == "lazy":
            initial = torch.zeros(slot.shape, dtype=slot.dtype, device="cpu")
        held = values_of(initial)
        # A bool scalar has two values to offer: after a few tries, take what there is.
        for _ in range(4):
            tensor = _dense(spec, tuple(held.shape), slot.dtype, self.index)
            self.index += 1
            if not self._met(held, tensor):
                break
        self.dense[slot.group] = with_values(initial, tensor)
        return _formed(spec, self.dense[slot.group])

    def _met(self, initial: torch.Tensor, tensor: torch.Tensor) -> bool:
        if tensor.numel() == 0:
            return False
        if tensor.dtype == initial.dtype and not initial.is_meta and _same(tensor, initial):
            return True
        if tensor.numel() > 4:
            return False
        key = (tensor.dtype, *tensor.reshape(-1).view(torch.uint8).tolist())
        met = key in self.small
        self.small.add(key)
        return met


def _contiguous(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _same(tensor: torch.Tensor, initial: torch.Tensor) -> bool:
    if tensor.shape != initial.shape or initial.device.type != "cpu":
        return False
    integer = INTEGERS[min(8, tensor.dtype.itemsize)]
    left, right = tensor.reshape(-1), initial.detach().reshape(-1)
    return torch.equal(left.view(integer), right.view(integer))


def _dense(
    spec: TensorSpec, shape: tuple[int, ...], dtype: torch.dtype, index: int
) -> torch.Tensor:
    if spec.dtype is not None:
        dtype = named(spec.dtype)
    tensor = fill(shape if spec.shape is None else spec.shape, dtype, index)
    for position, kind in spec.values:
        put(tensor, position, kind)
    return tensor


def _formed(spec: TensorSpec, dense: torch.Tensor) -> torch.Tensor:
    tensor = FORMS[spec.form].make(dense.clone())
    if spec.requires_grad is not None:
        return nn.Parameter(tensor, requires_grad=spec.requires_grad)
    return tensor


def _make_views(filled: dict[str, torch.Tensor], view: View) -> None:
    # Where the two overlap the storage holds the contents of the first. Neither is at its start.
    first, second = (filled[name] for name in view.names)
    start = 1 + view.shift
    room = max(1 + first.numel(), start + second.numel())
    storage = torch.zeros(room, dtype=first.dtype, device="cpu")
    storage[start : start + second.numel()] = second.reshape(-1)
    storage[1 : 1 + first.numel()] = first.reshape(-1)
    filled[view.names[0]] = storage[1 : 1 + first.numel()].view(first.shape)
    filled[view.names[1]] = storage[start : start + second.numel()].view(second.shape)
