"""A file of an older version of the module, which the module brings up to date as it loads."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class SecondVersion(nn.Module):
    """A module whose first version called the weight ``kernel`` and had no scale."""

    _version = 2

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.register_buffer("scale", torch.ones(size))

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, *arguments: Any
    ) -> None:
        """Rename what the first version had, and add what it lacked."""
        if local_metadata.get("version", self._version) < 2:
            old = state_dict.pop(prefix + "kernel", None)
            if old is not None:
                state_dict[prefix + "weight"] = old
                state_dict.setdefault(prefix + "scale", torch.full_like(old, 0.5))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *arguments)


def _apply(plan: Plan, choose: Choose) -> None:
    kind = choose(("renamed", "lacking", "BatchNorm1d"))
    plan.numbered = True
    if kind == "BatchNorm1d":
        prefix = plan.add(kind, num_features=choose((1, 2)))
        plan.missing.append(prefix + "num_batches_tracked")
    else:
        prefix = plan.add("SecondVersion", size=choose((1, 2)))
        plan.renamed[prefix + "weight"] = prefix + "kernel"
        if kind == "lacking":
            plan.missing.append(prefix + "scale")
    plan.versions[prefix.rstrip(".")] = 1


FEATURE = Feature(
    name="old-version",
    of="module",
    sentence="The file is of an older version of the module, which upgrades it as it loads.",
    references=("open-mmlab/mmcv#1294", "pytorch/pytorch#8481", "pytorch/pytorch#115285"),
    apply=_apply,
    factories=(SecondVersion,),
)
