"""The checkpoint of a case as lines of Python that write the same bytes.

Apart from the script because it is about tensors as text: numbers where they come back exactly,
bytes where they do not, and the pattern they were made by where there are too many to read.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import Case, CheckpointSpec, TensorSpec, View
from pytest_ckptload.contents import FORMS, fill, state_of
from pytest_ckptload.contents.patterns import INTEGERS
from pytest_ckptload.contents.sparse import indices_of, values_of
from pytest_ckptload.machine.dtypes import PARTS
from pytest_ckptload.report.quoting import literal
from pytest_ckptload.zoo.structure import structure_of

__all__ = ["checkpoint_lines"]

# Longer tensors are written as the pattern they were filled with.
_MOST_NUMBERS = 24
_MOST_PATCHES = 3
_WIDTH = 96


def checkpoint_lines(case: Case, module: nn.Module | None, build: str = "build") -> list[str]:
    """Lines that make ``state``, what the case's checkpoint holds, with the help of ``build()``.

    ``module`` is a fresh one of the case. Without it only the pattern can be given, and a remark on
    how the case departs from it. Some lines take ``contents.fill`` to be there.
    """
    lines = [f"state = {build}().state_dict()"]
    if module is None:
        lines += _loop([None], numbered=True, guarded=True)
        if case.checkpoint != CheckpointSpec():
            lines += textwrap.wrap(
                repr(case.checkpoint),
                _WIDTH,
                initial_indent="# Now make it like this: ",
                subsequent_indent="#   ",
                break_on_hyphens=False,
            )
        return lines
    contents = _Contents(case, module)
    lines += contents.explicit() if case.module is not None else contents.looped()
    lines += [line for view in case.checkpoint.views for line in contents.view(view)]
    lines += contents.woven()
    lines += contents.forms()
    lines += [f"del state[{literal(name)}]" for name in case.checkpoint.missing]
    lines += _other_lines(case.checkpoint)
    if case.checkpoint.order != "module":
        names = "sorted(state)" if case.checkpoint.order == "sorted" else "list(reversed(state))"
        lines += [f"for name in {names}:", "    state.move_to_end(name)"]
    if not case.checkpoint.metadata:
        lines.append("del state._metadata")
    return lines


def _other_lines(spec: CheckpointSpec) -> Iterator[str]:
    """Lines for what is no tensor, and for names and versions that are not those of the module."""
    for name, value in spec.objects.items():
        yield f"state[{literal(name)}] = {literal(value)}"
    for name, old in spec.renamed.items():
        yield f"state[{literal(old)}] = state.pop({literal(name)})"
    for path, version in spec.versions.items():
        yield f'state._metadata[{literal(path)}]["version"] = {version}'


class _Contents:
    """The contents of one case's checkpoint, with and without its views."""

    def __init__(self, case: Case, module: nn.Module) -> None:
        structure, spec = structure_of(module), replace(case.checkpoint, renamed={})
        self.original = module.state_dict()
        self.final = state_of(module, structure, spec)
        self.groups = structure.woven if spec.ties == "shared" else ()
        self.specs = {**spec.tensors, **spec.extra}
        self.plain = _tensors(state_of(module, structure, _without_forms(spec)))
        self.written: dict[_Elements, str] = {}
        self.last = -1
        # Views of few elements are cut out of a storage that is written down as a whole.
        self.cut = {n for v in spec.views for n in v.names if self._size(v) <= _MOST_NUMBERS}

    def _size(self, view: View) -> int:
        first, second = (self.plain[name].numel() for name in view.names)
        return 1 + max(first, view.shift + second)

    def explicit(self) -> Iterator[str]:
        """One line for each tensor."""
        for name, tensor in self.plain.items():
            if name not in self.cut:
                yield from self._line(name, tensor)

    def looped(self) -> Iterator[str]:
        """A loop over all names, and lines for those whose contents are not of the pattern."""
        indices: list[int | None] = []
        others: list[str] = []
        for name, value in self.original.items():
            tensor, index = self.plain.get(name), None
            if (
                tensor is not None
                and _elements(tensor) not in self.written
                and _alike(tensor, value)
            ):
                found = self._pattern(tensor)
                index = found[0] if found and not found[1] else None
            indices.append(index)
            if tensor is not None and index is not None:
                self.written[_elements(tensor)] = name
            elif tensor is not None:
                others.append(name)
        for name in self.plain:
            if name not in self.original:
                others.append(name)
        numbered = all(index in (None, place) for place, index in enumerate(indices))
        guarded = len(_tensors(self.original)) < len(self.original)
        yield from _loop(indices, numbered, guarded)
        for name in others:
            if name not in self.cut:
                yield from self._line(name, self.plain[name])

    def view(self, view: View) -> Iterator[str]:
        """Lines that make two tensors views of one storage."""
        first, second = view.names
        sizes = [self.plain[name].numel() for name in view.names]
        starts = (1, 1 + view.shift)  # as ``contents`` has it
        ends = (starts[0] + sizes[0], starts[1] + sizes[1])
        cuts = tuple(f"[{start}:{end}]" for start, end in zip(starts, ends, strict=True))
        if first in self.cut:
            storage = self.final[first].as_strided((max(ends),), (1,), 0)
            yield from _assigned("storage", _expression(storage))
        else:
            dtype = self.plain[first].dtype
            yield f"storage = torch.zeros({max(ends)}, dtype={dtype})"
            yield f"storage{cuts[1]} = state[{literal(second)}].reshape(-1)"
            yield f"storage{cuts[0]} = state[{literal(first)}].reshape(-1)"
        for name, cut in zip(view.names, cuts, strict=True):
            shape = tuple(self.plain[name].shape)
            viewed = "" if len(shape) == 1 else f".view({_listed(shape) or '()'})"
            yield f"state[{literal(name)}] = storage{cut}{viewed}"

    def woven(self) -> Iterator[str]:
        """Lines that put tensors into one storage that lie so in the module."""
        for names in self.groups:
            if self.specs.keys() & set(names):
                continue
            first = self.plain[names[0]]
            elements = first.untyped_storage().nbytes() // first.element_size()
            yield f"storage = torch.zeros({elements}, dtype={first.dtype})"
            for name in names:
                tensor, target = self.plain[name], f"state[{literal(name)}]"
                lies = tuple(tensor.shape), tensor.stride(), tensor.storage_offset()
                yield f"tensor = storage.as_strided({', '.join(map(literal, lies))})"
                yield f"{target} = tensor.copy_({target})"

    def forms(self) -> Iterator[str]:
        """Lines that give tensors another form than the dense one, or make Parameters of them."""
        done: dict[_Elements, str] = {}
        for name, spec in self.specs.items():
            target, dense = f"state[{literal(name)}]", self.plain.get(name)
            if (spec.form, spec.requires_grad) == ("dense", None) or dense is None:
                continue
            if (first := done.setdefault(_elements(dense), target)) is not target:
                detached = "" if spec.requires_grad is not None else ".detach()"
                yield f"{target} = {first}{detached}"
                continue
            if spec.form != "dense":
                yield f"{target} = {FORMS[spec.form].code.format(target)}"
            if spec.requires_grad is not None:
                yield f"{target} = nn.Parameter({target}, requires_grad={spec.requires_grad})"

    def _line(self, name: str, tensor: torch.Tensor) -> Iterator[str]:
        target = f"state[{literal(name)}]"
        if _elements(tensor) in self.written:
            yield f"{target} = state[{literal(self.written[_elements(tensor)])}].detach()"
            return
        self.written[_elements(tensor)] = name
        if tensor.layout != torch.strided:
            yield from _assigned(target, _sparse(tensor))
        elif tensor.numel() > _MOST_NUMBERS and (found := self._pattern(tensor)) is not None:
            index, patches = found
            yield f"{target} = fill({literal(tuple(tensor.shape))}, {tensor.dtype}, {index})"
            integer = _integer(tensor.dtype)
            for place in patches:
                bits = hex(int(tensor.view(-1).view(integer)[place]))
                yield f"{target}.view(-1).view({integer})[{place}] = {bits}"
        else:
            yield from _assigned(target, _expression(tensor))

    def _pattern(self, tensor: torch.Tensor) -> tuple[int, list[int]] | None:
        """The index of the pattern of ``tensor``, and the places where it departs from that."""
        integer = _integer(tensor.dtype)
        # Where a value was put on top of the pattern, it is a single one.
        few = 0 if tensor.dtype == torch.bool else min(_MOST_PATCHES, tensor.numel() // 8)
        near = range(self.last + 1, self.last + 5)
        for index in (*near, *range(4 * len(self.plain))):
            pattern = fill(tuple(tensor.shape), tensor.dtype, index)
            unlike = tensor.reshape(-1).view(integer) != pattern.reshape(-1).view(integer)
            if int(unlike.sum()) <= few:
                self.last = index
                return index, [int(place) for place in unlike.nonzero()]
        return None


_Elements = tuple[Any, ...]


def _elements(tensor: torch.Tensor) -> _Elements:
    """What makes two entries one: the same elements of one storage."""
    tensor = values_of(tensor)
    return (
        tensor.untyped_storage()._cdata,
        tensor.storage_offset(),
        tuple(tensor.shape),
        tensor.stride(),
    )


def _without_forms(spec: CheckpointSpec) -> CheckpointSpec:
    def dense(specs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
        return {n: replace(s, form="dense", requires_grad=None) for n, s in specs.items()}

    return replace(
        spec, views=(), tensors=dense(spec.tensors), extra=dense(spec.extra), order="module"
    )


def _integer(dtype: torch.dtype) -> torch.dtype:
    """An integer as wide as the dtype, or as a part of it."""
    return INTEGERS[PARTS.get(dtype, dtype).itemsize]


def _tensors(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _alike(tensor: torch.Tensor, value: object) -> bool:
    if not isinstance(value, torch.Tensor) or tensor.layout != torch.strided:
        return False
    return (tensor.shape, tensor.dtype) == (value.shape, value.dtype)


def _loop(indices: list[int | None], numbered: bool, guarded: bool) -> Iterator[str]:
    if numbered:
        yield "for index, (name, tensor) in enumerate(state.items()):"
    else:
        yield from textwrap.wrap(
            f"indices = {[index or 0 for index in indices]}", _WIDTH, subsequent_indent="    "
        )
        yield "for index, (name, tensor) in zip(indices, state.items()):"
    indent = "    "
    if guarded:
        yield "    if isinstance(tensor, torch.Tensor):"
        indent *= 2
    yield f"{indent}state[name] = fill(tuple(tensor.shape), tensor.dtype, index)"


def _sparse(tensor: torch.Tensor) -> str:
    """The same for a sparse tensor."""
    parts = [_expression(part) for part in (*indices_of(tensor), values_of(tensor))]
    arguments = f"{', '.join(parts)}, {literal(tuple(tensor.shape))}"
    if tensor.layout == torch.sparse_coo:
        coalesced = ", is_coalesced=True" if tensor.is_coalesced() else ""
        return f"torch.sparse_coo_tensor({arguments}{coalesced})"
    return f"torch.sparse_compressed_tensor({arguments}, layout={tensor.layout})"


def _expression(tensor: torch.Tensor) -> str:
    """An expression whose value has the dtype, the shape and every bit of ``tensor``."""
    dtype = "" if tensor.dtype in _IMPLIED else f", dtype={tensor.dtype}"
    tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
    if not tensor.numel():
        return f"torch.empty({literal(tuple(tensor.shape))}, dtype={tensor.dtype})"
    if tensor.numel() <= _MOST_NUMBERS and (text := _exactly(tensor, dtype)) is not None:
        return text
    data = bytes(tensor.contiguous().view(-1).view(torch.uint8).tolist()).hex()
    shape = "" if tensor.dim() == 1 else f".reshape({_listed(tensor.shape) or '()'})"
    return f'torch.frombuffer(bytearray.fromhex("{data}"), dtype={tensor.dtype}){shape}'


def _exactly(tensor: torch.Tensor, dtype: str) -> str | None:
    """The tensor as a list of numbers, where these come back as the same bytes."""
    try:
        text = f"torch.tensor({_numbers(tensor.tolist(), tensor.dtype)}{dtype})"
        same = _same(eval(text, {"torch": torch}), tensor)
    except (RuntimeError, OverflowError):  # packed dtypes have no numbers, and some no room
        return None
    return text if same else None


# Dtypes that torch.tensor gives a list of such numbers by itself.
_IMPLIED = {torch.float32, torch.int64, torch.bool, torch.complex64}


def _numbers(value: Any, dtype: torch.dtype) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_numbers(item, dtype) for item in value) + "]"
    if isinstance(value, complex):
        part = PARTS[dtype]
        return f"complex({_numbers(value.real, part)}, {_numbers(value.imag, part)})"
    if not isinstance(value, float):
        return repr(value)
    if not math.isfinite(value):
        return "-torch.inf" if value < 0 else f"torch.{value}"
    # The fewest digits that come back as the same number.
    for digits in range(1, 17):
        text = repr(float(f"{value:.{digits}g}"))
        if torch.tensor(float(text), dtype=dtype).item() == value:
            return text
    return repr(value)


def _same(left: torch.Tensor, right: torch.Tensor) -> bool:
    if not _alike(left, right):
        return False
    return torch.equal(left.reshape(-1).view(torch.uint8), right.reshape(-1).view(torch.uint8))


def _assigned(target: str, expression: str) -> Iterator[str]:
    """An assignment, over several lines where it is long."""
    line = f"{target} = {expression}"
    if len(line) <= _WIDTH:
        yield line
    elif '"' not in expression:
        opening, _, inner = expression.removesuffix(")").partition("(")
        yield f"{target} = {opening}("
        for row in textwrap.wrap(inner, _WIDTH - 4):
            yield f"    {row}"
        yield ")"
    else:
        start, data, end = expression.split('"')
        yield f"{target} = {start}"
        for row in textwrap.wrap(data, 80):
            yield f'    "{row}"'
        yield end


def _listed(shape: Iterable[int]) -> str:
    return ", ".join(map(str, shape))
