"""A state dict that is loaded into the optimizer it came from: is it another afterwards?

Apart from ``again``, which is about loaders: here nothing is read, and the caller of
``load_state_dict`` is the plugin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from pytest_ckptload.observe.tensors import same_tensor

__all__ = ["changed_by_loading"]


def changed_by_loading(optimizer: Any) -> tuple[str, ...]:
    """The places in the optimizer's own state dict that loading it changes.

    None where there is no such method, or where it refuses: what a file takes was asked before.
    """
    try:
        state = optimizer.state_dict()
        before = _kept(state)
        optimizer.load_state_dict(state)
    except Exception:
        return ()
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
        inside = [(key, value.get(key, keys), before.get(key, keys)) for key in keys]
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
