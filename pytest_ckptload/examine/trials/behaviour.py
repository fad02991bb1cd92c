"""What two modules do with the same inputs: outputs, and gradients of them, bit for bit.

Apart from the observers because modules are run here, which changes running statistics: it comes
after all that is only looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from pytest_ckptload.case import ModuleSpec
from pytest_ckptload.examine.trials.calls import Call, Run, copied, run
from pytest_ckptload.observe import Observation
from pytest_ckptload.observe.aliasing import address_of, strides_of
from pytest_ckptload.observe.tensors import same_bits, same_tensor
from pytest_ckptload.printable import described
from pytest_ckptload.rules import Behaviour
from pytest_ckptload.zoo.inputs import forward_inputs

__all__ = ["behave", "behave_whole"]

# The words for how two runs differ: in the outputs, and where those do not, by gradient.
_Unlike = tuple["str | None", dict[str, str]]


def behave(
    spec: ModuleSpec, actual: Observation, eager: Observation, accused: frozenset[str]
) -> Behaviour:
    """Call each class of the catalogue in two modules made from ``spec`` with the same inputs.

    Left out are parts that have a tensor which is not the eager module's in every respect, or that
    cannot be called in the eager module: nothing more is to be learnt from those.
    """
    calls = (Call(path, inputs) for path, inputs in forward_inputs(spec, eager.module))
    return _compared(calls, actual, eager, accused)


def behave_whole(
    arguments: tuple[Any, ...],
    keywords: Mapping[str, Any],
    actual: Observation,
    eager: Observation,
    accused: frozenset[str],
) -> Behaviour:
    """Call two whole modules with the same inputs, in eval mode and in training.

    Afterwards they are in the modes and have the buffers of before.
    """
    calls = (Call("", arguments, keywords, training) for training in (False, True))
    with _as_before(actual), _as_before(eager):
        return _compared(calls, actual, eager, accused)


def _compared(
    calls: Iterable[Call], actual: Observation, eager: Observation, accused: frozenset[str]
) -> Behaviour:
    outputs: dict[str, str] = {}
    gradients: dict[str, str] = {}
    unsettled: dict[str, str] = {}
    for call in calls:
        path = call.path
        difference, unlike = _compare(call, actual, eager, accused, unsettled)
        if difference:
            outputs.setdefault(path, f"{difference}{call.mode}")
        for name, how in unlike.items():
            gradients.setdefault(f"{path}.{name}" if path else name, f"{how}{call.mode}")
    return Behaviour(outputs, gradients, unsettled)


def _compare(
    call: Call,
    actual: Observation,
    eager: Observation,
    accused: frozenset[str],
    unsettled: dict[str, str],
) -> _Unlike:
    """How the call ends differently in the two modules; why nothing is known of that goes to
    ``unsettled``.
    """
    if not _comparable(call, actual, eager, accused):
        unsettled[call.path] = "its tensors are not those of the eager module"
        return None, {}
    part, twin = actual.parts[call.path], eager.parts[call.path]
    wanted = run(twin, call)
    if isinstance(wanted, Exception):
        unsettled[call.path] = f"the eager module raises {type(wanted).__name__}"
        return None, {}
    found = _differences(run(part, call), wanted)
    if not any(found):
        return found
    # Sums depend on where in memory their terms lie, which is for a loader to choose. So the second
    # look is at modules that are new to both.
    with copied(_tensors(actual)), copied(_tensors(eager)):
        wanted, again, given = run(twin, call), run(twin, call), run(part, call)
    if isinstance(wanted, Exception) or any(_differences(again, wanted)):
        unsettled[call.path] = "the eager module does not give the same twice"
        return None, {}
    return _differences(given, wanted)


def _differences(given: Run | Exception, wanted: Run) -> _Unlike:
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
    call: Call, actual: Observation, eager: Observation, accused: frozenset[str]
) -> bool:
    path = call.path
    prefix = f"{path}." if path else ""
    if path in accused or path not in actual.parts:
        return False
    if call.training is None and actual.parts[path].training != eager.parts[path].training:
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
    kind = tensor.dtype, tensor.shape, tensor.layout, tensor.device
    return *kind, tensor.requires_grad, tensor.is_inference()


def _tensors(observation: Observation, *, written: bool = False) -> list[torch.Tensor]:
    """The tensors with memory of their own; or those that calls may write to, with ``written``."""
    tensors = {
        id(place.tensor): place.tensor
        for place in observation.places.values()
        if not (place.lazy or (written and place.kind == "parameter"))
    }
    return [t for t in tensors.values() if not t.is_meta and address_of(t) is not None]


@contextmanager
def _as_before(observation: Observation) -> Iterator[None]:
    modes = [(part, part.training) for part in observation.module.modules()]
    try:
        with copied(_tensors(observation, written=True)):
            yield
    finally:
        for part, training in modes:
            part.training = training


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
