"""Extra state: an entry of the state dict that a module writes and reads by itself."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class Counting(nn.Module):
    """A weight, and a count that is saved as plain data."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.count = 0

    def get_extra_state(self) -> dict[str, int]:
        """What goes into the state dict."""
        return {"count": self.count}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take it up again."""
        self.count = state["count"]


class Scaled(nn.Module):
    """A weight, and its scale, which is saved as a tensor and kept as numbers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.scale = [1.0] * size

    def get_extra_state(self) -> torch.Tensor:
        """What goes into the state dict."""
        return torch.tensor(self.scale, device="cpu")

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Take it up again."""
        self.scale = state.tolist()


def _apply(plan: Plan, choose: Choose) -> None:
    kind = choose(("Counting", "Scaled"))
    prefix = plan.add(kind, size=choose((1, 2)))
    if kind == "Counting":
        plan.numbered = True
        plan.objects[prefix + "_extra_state"] = {"count": 3}


FEATURE = Feature(
    name="extra-state",
    of="module",
    sentence="A module has extra state, plain data or a tensor, which it saves and loads itself.",
    references=("huggingface/transformers#38154", "Lightning-AI/pytorch-lightning#17695"),
    apply=_apply,
    factories=(Counting, Scaled),
)
