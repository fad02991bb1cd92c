"""``annex``: a second device for the tests, with two indices, real to torch in all that it asks.

Apart from the tests because a process that has loaded it has an accelerator from then on: those
that are about it run in processes of their own, with ``-p annex``. It is compiled once for each
torch, and kept where torch keeps what it compiles.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils import cpp_extension

__all__ = ["backend"]

_SOURCE = Path(__file__).with_name("backend.cpp")


def _compiled() -> Any:
    text = _SOURCE.read_bytes() + torch.__version__.encode()
    name = f"ckptload_annex_{hashlib.sha256(text).hexdigest()[:12]}"
    return cpp_extension.load(name=name, sources=[str(_SOURCE)], extra_cflags=["-O1", "-g0"])


def _device_module(made: Any) -> Any:
    """What torch wants to find as ``torch.annex``."""
    module: Any = types.ModuleType("torch.annex")
    module.is_available = module.is_initialized = lambda: True
    module.device_count = lambda: made.INDICES
    module.current_device = made.current_device
    module.set_device = lambda device: made.set_device(_index(made, device))
    module.synchronize = lambda device=None: None
    module.get_rng_state = lambda device=None: torch.default_generator.get_state()
    module.set_rng_state = lambda state, device=None: torch.default_generator.set_state(state)
    module.manual_seed = module.manual_seed_all = torch.default_generator.manual_seed
    module._is_in_bad_fork = lambda: False
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]

    @contextmanager
    def device(which: Any) -> Iterator[None]:
        before = made.current_device()
        made.set_device(_index(made, which))
        try:
            yield
        finally:
            made.set_device(before)

    module.device = device
    return module


def _index(made: Any, device: Any) -> int:
    index = device if isinstance(device, int) else torch.device(device).index
    return made.current_device() if index is None else index


def _register() -> Any:
    made = _compiled()
    torch.utils.rename_privateuse1_backend("annex")
    torch._register_device_module("annex", _device_module(made))
    torch.utils.generate_methods_for_privateuse1_backend()
    return made


backend = _register()
