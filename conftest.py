"""For every test of this project; the plugin itself comes in through its entry point.

Naming the plugin's module here as well would register it twice, and pytest would stop.
"""

from __future__ import annotations

# Once, and before any test: a `pytester` run in this process drops the modules it was the first to
# import, and torch, its lazy parts included, cannot be imported a second time.
import torch
import torch._inductor.config
import torch.distributed

import pytest_ckptload.session.conversion
import pytest_ckptload.suite  # noqa: F401

torch.empty(1, device="meta").normal_()
torch.compile(torch.nn.Identity(), backend="eager")

pytest_plugins = ["pytester"]
