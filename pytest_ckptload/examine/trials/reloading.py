"""A state dict that is loaded into the optimizer it came from: is it another afterwards?

Apart from ``again``, which is about loaders: here nothing is read, and the caller of
``load_state_dict`` is the plugin.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from pytest_ckptload.observe.tensors import same_tensor

__all__ = ["changed_by_loading"]


_NOTHING = object()


def changed_by_loading(optimizer: Any) -> tuple[str, ...]:
    """The places in the optimizer's own state dict that loading it changes.

    None where it gives no state dict. It need not load what it gives, as long as it leaves that
    alone: whether it loads what is in a file was asked before.
    """
    try:
        state = optimizer.state_dict()
    except Exception:
        return ()
    before = _kept(state)
    with contextlib.suppress(Exception):
        optimizer.load_state_dict(state)
    return tuple(_differences(state, before, ""))


def _kept(value: Any) -> Any:
    """The value as it is now, in containers and tensors of its own."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _kept(item) for key, item in value.items()}
    return [_kept(item) for item in value] if isinstance(value, list | tuple) else value


def _differences(value: Any, before: Any, place: str) -> Iterator[str]:
    if isinstance(value, dict) and isinstance(before, dict):
        keys = dict.fromkeys((*before, *value))
        inside = [(key, value.get(key, _NOTHING), before.get(key, _NOTHING)) for key in keys]
    elif isinstance(value, list | tuple) and isinstance(before, list):
        inside = [(i, *pair) for i, pair in enumerate(zip(value, before, strict=False))]
        if len(value) != len(before):
            yield place
    else:
        if not _same(value, before):
            yield place
        return
    for key, now, then in inside:
        yield from _differences(now, then, f"{place}[{key!r}]")


def _same(value: Any, before: Any) -> bool:
    if isinstance(value, torch.Tensor) and isinstance(before, torch.Tensor):
        return value.is_meta or same_tensor(value, before)
    return type(value) is type(before) and (value is before or value == before or value != value)
