"""What a script can refer to: the tensors of a case's module, and where their values come from.

Apart from the assertions because these only ask, each for the tensors it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from pytest_ckptload.case import Case
from pytest_ckptload.machine.dtypes import UNFILLED
from pytest_ckptload.observe import Observation, observe
from pytest_ckptload.report.quoting import literal
from pytest_ckptload.zoo.structure import Slot, structure_of

__all__ = ["Scene"]


@dataclass
class Scene:
    """What an assertion may depend on: the case, a fresh module of it, and the dtype of a cast."""

    case: Case
    module: nn.Module | None
    dtype: torch.dtype | None = None

    @cached_property
    def fresh(self) -> Observation | None:
        return None if self.module is None else observe(self.module)

    @cached_property
    def slots(self) -> dict[str, Slot]:
        saved = () if self.module is None else structure_of(self.module).saved
        return {slot.name: slot for slot in saved}

    @property
    def fillable(self) -> bool:
        """Whether torch can fill new memory of every dtype in the module."""
        return all(slot.dtype not in UNFILLED for slot in self.slots.values())

    def kind(self, name: str) -> str:
        """The kind of the tensor ``name`` in a fresh module."""
        place = None if self.fresh is None else self.fresh.places.get(name)
        return "parameter" if place is None else place.kind

    def in_file(self, name: str) -> bool:
        """Whether the file says the value of ``name``, and no code of the module's own."""
        if self.fresh is None:
            return True
        if name not in self.slots or name in self.case.checkpoint.missing:
            return False
        woven = any(name in pair for pair in self.fresh.overlaps)
        return not woven and not name.startswith(tuple(self.fresh.customised))

    def twins(self, name: str) -> list[str]:
        """The names tied to ``name`` in the module that have a value of their own in the file."""
        if self.fresh is None or self.case.checkpoint.ties != "differ":
            return []
        return [n for n in self.fresh.groups.get(name, ()) if n != name and self.in_file(n)]

    def converted(self, name: str) -> bool:
        """Whether the value in the file may have to be converted."""
        spec = self.case.checkpoint.tensors.get(name)
        slot = self.slots.get(name)
        drifted = spec is not None and spec.dtype is not None
        return drifted or (self.dtype is not None and (slot is None or slot.dtype != self.dtype))

    def at(self, name: str, root: str = "loaded") -> str:
        """The expression for the tensor or module called ``name`` in a finding."""
        path, bracket, rest = name.partition("[")
        module, expression = self.module, root
        for part in path.split(".") if path else ():
            indexed = isinstance(module, nn.Sequential | nn.ModuleList) or module is None
            if part.isdigit() and indexed:
                expression += f"[{part}]"
            elif isinstance(module, nn.ModuleDict):
                expression += f"[{literal(part)}]"
            elif part.isidentifier():
                expression += f".{part}"
            else:
                expression = f"getattr({expression}, {literal(part)})"
            module = getattr(module, part, None) if module is not None else None
        return expression + bracket + rest
