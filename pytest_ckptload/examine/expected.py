"""What a checkpoint lets a load end in: which files may be refused, and which have to be.

Apart from the pipeline, which loads, because this is read from the case and its values alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from pytest_ckptload.case import Case, CheckpointSpec
from pytest_ckptload.damage import describe
from pytest_ckptload.observe.tensors import same_tensor
from pytest_ckptload.zoo.structure import Structure

__all__ = [
    "details",
    "filled_through_ties",
    "is_wrapped",
    "refusable",
    "with_fitting_shapes",
]


def is_wrapped(checkpoint: CheckpointSpec) -> bool:
    """Whether the file holds the state dict under other names, or beside other things."""
    return bool(checkpoint.prefix or checkpoint.payload)


def with_fitting_shapes(checkpoint: CheckpointSpec, structure: Structure) -> CheckpointSpec | None:
    """The same checkpoint with the module's own shapes, and no name missing or too many; ``None``
    where the shapes are the module's.
    """
    shapes = {slot.name: slot.shape for slot in structure.saved if slot.kind != "lazy"}
    others = {
        name: replace(spec, shape=None)
        for name, spec in checkpoint.tensors.items()
        if name in shapes and spec.shape not in (None, shapes[name])
    }
    if not others:
        return None
    return replace(checkpoint, tensors={**checkpoint.tensors, **others}, missing=(), extra={})


def filled_through_ties(checkpoint: CheckpointSpec, structure: Structure) -> bool:
    """Whether each missing name is tied to one that the file holds, and no name is too many."""
    held = {slot.group for slot in structure.saved if slot.name not in checkpoint.missing}
    groups = {slot.group for slot in structure.saved if slot.name in checkpoint.missing}
    return bool(groups) and not checkpoint.extra and groups <= held


def details(case: Case) -> str:
    """What is the matter with the case's file, for findings about its being accepted."""
    checkpoint = case.checkpoint
    if checkpoint.damage is not None:
        return describe(checkpoint.damage)
    said = []
    if checkpoint.prefix:
        said.append(f"{checkpoint.prefix!r} before every name")
    if checkpoint.payload:
        said.append(f"the state dict under {checkpoint.payload!r}")
    for name, spec in checkpoint.tensors.items():
        if spec.shape is not None:
            said.append(f"{name} of shape {spec.shape}")
    if checkpoint.missing:
        said.append(f"{', '.join(checkpoint.missing)} missing")
    if checkpoint.extra:
        said.append(f"{', '.join(checkpoint.extra)} too many")
    return " and ".join(said)


def refusable(
    case: Case, values: Mapping[str, Any], structure: Structure, dtype: torch.dtype | None
) -> str | None:
    """Why refusing is right although the eager recipe loads.

    That is damage, a wrapped state dict, a conversion that torch itself refuses or that takes a
    part of each number away, or tied names with different values in the file.
    """
    if case.checkpoint.damage is not None:
        return "the file is damaged"
    if is_wrapped(case.checkpoint):
        return "the file holds the state dict under other names, or beside other things"
    for slot in structure.saved:
        value = values.get(slot.name)
        if isinstance(value, torch.Tensor) and _family(value.dtype) != _family(slot.dtype):
            return f"{slot.name} is {value.dtype} in the file and {slot.dtype} in the module"
        if dtype is not None and slot.dtype.is_complex and not dtype.is_complex:
            return f"{slot.name} is complex, and dtype={dtype} has no imaginary part"
    for group in structure.ties():
        held = [values[name] for name in group if name in values]
        if any(not same_tensor(held[0], other) for other in held[1:]):
            return f"{' and '.join(group)} are one tensor in the module and differ in the file"
    return None


def _family(dtype: torch.dtype) -> str:
    if dtype.is_complex:
        return "complex"
    return "floating" if dtype.is_floating_point else "integer"
