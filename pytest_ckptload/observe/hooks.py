"""The hooks of modules and tensors.

Apart because torch keeps them in a dozen private places, which nothing else should know.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from pytest_ckptload.observe.objects import called

__all__ = ["HOOKS", "hooks_of_module", "hooks_of_tensor"]

_OF_MODULES = {
    "_forward_pre_hooks": "forward pre-hook",
    "_forward_hooks": "forward hook",
    "_backward_pre_hooks": "backward pre-hook",
    "_backward_hooks": "backward hook",
    "_state_dict_pre_hooks": "state dict pre-hook",
    "_state_dict_hooks": "state dict hook",
    "_load_state_dict_pre_hooks": "load pre-hook",
    "_load_state_dict_post_hooks": "load post-hook",
}
_OF_TENSORS = {
    "_backward_hooks": "gradient hook",
    "_post_accumulate_grad_hooks": "post-accumulate-gradient hook",
}

HOOKS = (*_OF_MODULES.items(), *_OF_TENSORS.items())
"""Every attribute that holds hooks, and what they are called."""


def hooks_of_module(module: nn.Module) -> Counter[str]:
    """The module's own hooks, by kind and name."""
    return _hooks(module, _OF_MODULES)


def hooks_of_tensor(tensor: torch.Tensor) -> Counter[str]:
    """The hooks on the tensor's gradient, by kind and name."""
    return _hooks(tensor, _OF_TENSORS)


def _hooks(owner: object, kinds: dict[str, str]) -> Counter[str]:
    return Counter(
        f"{kind} {called(hook)}"
        for attribute, kind in kinds.items()
        for hook in (getattr(owner, attribute, None) or {}).values()
    )
