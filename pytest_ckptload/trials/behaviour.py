"""What two modules do with the same inputs: outputs, and gradients of them, bit for bit.

Apart from the observers because modules are run here, which changes running statistics: it comes
after all that is only looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import ModuleSpec
from pytest_ckptload.observe import Observation
from pytest_ckptload.observe.aliasing import strides_of
from pytest_ckptload.observe.tensors import same_bits, same_tensor
from pytest_ckptload.printable import described
from pytest_ckptload.rules import Behaviour
from pytest_ckptload.zoo import seeded
from pytest_ckptload.zoo.inputs import forward_inputs

__all__ = ["behave"]

# The outputs, and the gradient of their sum by the name of the parameter.
_Run = tuple[list[torch.Tensor], dict[str, "torch.Tensor | None"]]


def behave(
    spec: ModuleSpec, actual: Observation, eager: Observation, accused: frozenset[str]
) -> Behaviour:
    """Call each class of the catalogue in two modules made from ``spec`` with the same inputs.

    Left out are parts that have a tensor which is not the eager module's in every respect, or that
    cannot be called in the eager module: nothing more is to be learnt from those.
    """
    outputs: dict[str, str] = {}
    gradients: dict[str, str] = {}
    for path, inputs in forward_inputs(spec, eager.module):
        if path not in actual.parts or not _comparable(path, actual, eager, accused):
            continue
        wanted = _run(eager.parts[path], inputs)
        if isinstance(wanted, Exception):
            continue
        given = _run(actual.parts[path], inputs)
        difference, unlike = _differences(given, wanted)
        if not (difference or unlike) or _varies(eager.parts[path], inputs, wanted):
            continue
        if difference:
            outputs[path] = difference
        for name, how in unlike.items():
            gradients[f"{path}.{name}" if path else name] = how
    return Behaviour(outputs, gradients)


def _varies(part: nn.Module, inputs: tuple[Any, ...], wanted: _Run) -> bool:
    """Whether the eager module itself does not do the same again."""
    difference, unlike = _differences(_run(part, inputs), wanted)
    return bool(difference or unlike)


def _differences(given: _Run | Exception, wanted: _Run) -> tuple[str | None, dict[str, str]]:
    """How the outputs differ, and where they do not, the gradients by name."""
    if isinstance(given, Exception):
        return f"calling it raised {described(given)}", {}
    if difference := _first_unlike(given[0], wanted[0]):
        return difference, {}
    return None, {
        name: _unlike(given[1].get(name))
        for name, gradient in wanted[1].items()
        if not _same(given[1].get(name), gradient)
    }


def _comparable(
    path: str, actual: Observation, eager: Observation, accused: frozenset[str]
) -> bool:
    prefix = f"{path}." if path else ""
    if path in accused or actual.parts[path].training != eager.parts[path].training:
        return False
    return all(
        name not in accused
        and name in actual.places
        and _same_tensor(actual.places[name].tensor, place.tensor)
        for name, place in eager.places.items()
        if name.startswith(prefix)
    )


def _same_tensor(left: torch.Tensor, right: torch.Tensor) -> bool:
    if _kind(left) != _kind(right) or left.is_meta or left.layout != torch.strided:
        return False
    return strides_of(left) == strides_of(right) and same_bits(left, right)


def _kind(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, tensor.layout, tensor.device, tensor.requires_grad


def _run(part: nn.Module, inputs: tuple[Any, ...]) -> _Run | Exception:
    """The outputs, and the gradient of their sum for each parameter that has one."""
    device = next((t.device for t in (*part.parameters(), *part.buffers())), torch.device("cpu"))
    try:
        with seeded(0):
            outputs = list(_tensors(part(*_moved(inputs, device))))
            roots = [t for t in outputs if t.requires_grad]
            if roots:
                torch.autograd.backward(roots, [torch.ones_like(t) for t in roots])
        return outputs, {name: p.grad for name, p in part.named_parameters() if p.requires_grad}
    except Exception as error:
        return error
    finally:
        for parameter in part.parameters():
            parameter.grad = None


def _moved(given: Any, device: torch.device) -> Any:
    if isinstance(given, torch.Tensor):
        return given.to(device)
    return tuple(_moved(item, device) for item in given)


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, (list, tuple)):
        for item in output:
            yield from _tensors(item)


def _first_unlike(given: list[torch.Tensor], wanted: list[torch.Tensor]) -> str | None:
    if len(given) != len(wanted):
        return f"{len(given)} tensors, expected {len(wanted)}"
    for index, (one, other) in enumerate(zip(given, wanted, strict=True)):
        if not _same(one, other):
            which = f"output {index} of {len(given)}" if len(given) > 1 else "the output"
            return f"{which} {_unlike(one)}"
    return None


def _same(given: torch.Tensor | None, wanted: torch.Tensor | None) -> bool:
    if given is None or wanted is None:
        return given is wanted
    return same_tensor(given, wanted)


def _unlike(given: torch.Tensor | None) -> str:
    return "is not there" if given is None else "differs from that of the eager module"
