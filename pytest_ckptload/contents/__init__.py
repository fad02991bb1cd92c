"""The contents of a checkpoint, and its file: a ``CheckpointSpec`` made real for one module."""

from __future__ import annotations

from pytest_ckptload.contents.file import write
from pytest_ckptload.contents.forms import FORMS
from pytest_ckptload.contents.patterns import fill
from pytest_ckptload.contents.state import dtypes_in, state_of, tensor_of
from pytest_ckptload.contents.values import VALUES, value_kinds

__all__ = ["FORMS", "VALUES", "dtypes_in", "fill", "state_of", "tensor_of", "value_kinds", "write"]
