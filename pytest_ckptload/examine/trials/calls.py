"""One module, called: what it gives, and the gradient of that.

Apart from the comparison because nothing is judged here, and because factories are tried out in the
same way before anything is loaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pytest_ckptload.machine.torch_state import poisoned
from pytest_ckptload.zoo import all_seeded

__all__ = ["Call", "Run", "copied", "run"]

Run = tuple[list[torch.Tensor], dict[str, "torch.Tensor | None"]]
"""The outputs, and the gradient of their sum by the name of the parameter."""


@dataclass(frozen=True)
class Call:
    """A call of the submodule at ``path``; ``training`` says in which mode, where it is not to be
    the one that the submodule is in.
    """

    path: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    training: bool | None = None

    @property
    def mode(self) -> str:
        """The mode that was asked for, in words."""
        if self.training is None:
            return ""
        return " in training mode" if self.training else " in eval mode"


def run(part: nn.Module, call: Call) -> Run | Exception:
    """The outputs, and the gradient of their sum for each parameter that requires one; or what the
    call raised.
    """
    device = next((t.device for t in (*part.parameters(), *part.buffers())), torch.device("cpu"))
    try:
        with all_seeded(0), poisoned(fill=False):
            if call.training is not None:
                part.train(call.training)
            given = part(*_moved(call.arguments, device), **_moved(dict(call.keywords), device))
            outputs = list(_tensors(given))
            roots = [t for t in outputs if t.requires_grad]
            if roots:
                torch.autograd.backward(roots, [torch.ones_like(t) for t in roots])
        return outputs, {name: p.grad for name, p in part.named_parameters() if p.requires_grad}
    except Exception as error:
        return error
    finally:
        for parameter in part.parameters():
            parameter.grad = None


@contextmanager
def copied(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """While inside, these tensors are in new memory, and what is written to them is undone. Those
    stay where they are that torch can give no other memory.
    """
    kept = []
    for tensor in tensors:
        data = tensor.data
        copy = data.clone()
        if torch._has_compatible_shallow_copy_type(tensor, copy):
            kept.append((tensor, data))
            tensor.data = copy
    try:
        yield
    finally:
        for tensor, data in kept:
            tensor.data = data


def _moved(given: Any, device: torch.device) -> Any:
    """The same on a device, with copies of its tensors, which modules may write to."""
    if isinstance(given, torch.Tensor):
        copy = given.detach().to(device, copy=True)
        return copy.requires_grad_() if given.requires_grad else copy
    if type(given) in (tuple, list):
        return type(given)(_moved(item, device) for item in given)
    if type(given) is dict:
        return {key: _moved(value, device) for key, value in given.items()}
    return given


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from _tensors(list(output.values()))
    elif isinstance(output, (list, tuple)):
        for item in output:
            yield from _tensors(item)
    elif dataclasses.is_dataclass(output):
        yield from _tensors(list(vars(output).values()))
