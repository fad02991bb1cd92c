"""Hooks that take part in loading: they rename or reshape what older files hold, or go on from it.

Whoever sets tensors by their names, without ``load_state_dict``, has to call them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def rename(module: nn.Module, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
    """Take what older files call ``kernel`` for the weight."""
    if prefix + "kernel" in state_dict:
        state_dict[prefix + "weight"] = state_dict.pop(prefix + "kernel")


def reshape(module: nn.Module, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
    """Make a column of the row that older files hold."""
    row = state_dict.get(prefix + "weight")
    if row is not None and row.dim() == 1:
        state_dict[prefix + "weight"] = row[:, None]


def reverse(module: nn.Module, incompatible_keys: Any) -> None:
    """Bring the buffer up to date that is the weight in reverse order."""
    module.backwards = module.get_parameter("weight").detach().flip(0)


class Hooked(nn.Module):
    """A weight whose loading a hook takes part in, registered in the old way or the new."""

    def __init__(self, size: int, hook: str, public: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size, 1))
        itself: Any = self  # what registers hooks is not typed
        if hook == "reverse":
            self.register_buffer("backwards", torch.zeros(size, 1), persistent=False)
            itself.register_load_state_dict_post_hook(reverse)
            return
        before = {"rename": rename, "reshape": reshape}[hook]
        if public:
            itself.register_load_state_dict_pre_hook(before)
        else:
            itself._register_load_state_dict_pre_hook(before, with_module=True)


# The public way came after torch 2.4.
_PUBLIC = (False, True) if hasattr(nn.Module, "register_load_state_dict_pre_hook") else (False,)


def _apply(plan: Plan, choose: Choose) -> None:
    hook, size = choose(("rename", "reshape", "reverse")), choose((2, 3))
    if hook == "reverse":
        plan.add("Hooked", size=size, hook=hook)
        return
    weight = plan.add("Hooked", size=size, hook=hook, public=choose(_PUBLIC)) + "weight"
    plan.numbered = True
    if hook == "rename":
        plan.renamed[weight] = weight.removesuffix("weight") + "kernel"
    else:
        plan.tensors[weight] = TensorSpec(shape=(size,))


FEATURE = Feature(
    name="load-hooks",
    of="module",
    sentence="Hooks rename or reshape what an older file holds, or compute a buffer from it.",
    references=("huggingface/transformers#33679", "huggingface/transformers#31970"),
    apply=_apply,
    factories=(Hooked,),
)
