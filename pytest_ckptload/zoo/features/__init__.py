"""The trap features, one file each. To add one: write its file, and name it here."""

from __future__ import annotations

from pytest_ckptload.zoo.features import (
    buffer_computed,
    buffer_nonpersistent,
    damaged,
    dtype_drift,
    empty,
    extra_key,
    frozen,
    hostile,
    low_precision,
    missing_key,
    mixed_dtype,
    parameter_subclass,
    plain_attribute,
    scalar,
    shared_module,
    tied,
    views,
)

__all__ = ["ALL"]

ALL = (
    tied.FEATURE,
    shared_module.FEATURE,
    buffer_nonpersistent.FEATURE,
    buffer_computed.FEATURE,
    plain_attribute.FEATURE,
    frozen.FEATURE,
    parameter_subclass.FEATURE,
    mixed_dtype.FEATURE,
    low_precision.FEATURE,
    scalar.FEATURE,
    empty.FEATURE,
    views.FEATURE,
    dtype_drift.FEATURE,
    missing_key.FEATURE,
    extra_key.FEATURE,
    damaged.FEATURE,
    hostile.FEATURE,
)
