"""One optimizer step on a loaded module and on its reference, side by side.

Apart from the observers because it changes what it looks at: it runs last, and only on modules that
were made for the purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from pytest_ckptload.contents import fill
from pytest_ckptload.finding import Finding
from pytest_ckptload.observe import Observation, observe
from pytest_ckptload.observe.tensors import plain, same_bits
from pytest_ckptload.rules import Training, judge

__all__ = ["names_of_slots", "step_both", "train"]

# What plain SGD can step on every build of torch.
_STEPPED = {
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.complex128,
}

MakeStep = Callable[[list[torch.Tensor]], torch.optim.Optimizer]


def _sgd(parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.5, foreach=False)


def train(loaded: nn.Module, eager: nn.Module, accused: frozenset[str]) -> list[Finding]:
    """Make an optimizer from each module, step both with the same gradients, and judge.

    ``accused`` names differ already: they are left out, for what becomes of them is a consequence.
    """
    actual, reference = observe(loaded), observe(eager)
    parameters = _once(loaded.parameters())
    if not parameters:
        return []
    training = Training(
        actual,
        reference,
        [list(loaded.parameters())],
        [names_of_slots(reference, eager.parameters())],
        exempt=accused,
    )
    training.eager_slots = [[n for n in names if n not in accused] for names in training.eager_slots]
    stepped, error = step_both(actual, reference, _sgd, _sgd, accused)
    training.steps, training.error = stepped, error
    return judge(training)


def _once(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return list({id(t): t for t in tensors}.values())


def names_of_slots(observation: Observation, parameters: Iterable[torch.Tensor]) -> list[str]:
    """The first name in the module of each of these parameters; those without one are left out."""
    names = {
        id(place.tensor): observation.groups[name][0]
        for name, place in observation.places.items()
        if place.kind == "parameter"
    }
    return [names[id(p)] for p in parameters if id(p) in names]


def step_both(
    actual: Observation,
    reference: Observation,
    make_actual: MakeStep,
    make_reference: MakeStep,
    accused: frozenset[str],
) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], str | None]:
    """Step both modules with the same gradients; the names whose bytes differ afterwards.

    The reference of a parameter is the eager module's where the two are equal before the step, and a
    copy of the loaded one where they may differ (another dtype, an untied twin).
    """
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    used: set[int] = set()
    for name, place in actual.places.items():
        tensor = place.tensor
        if place.kind != "parameter" or actual.groups[name][0] != name:
            continue
        if accused.intersection(actual.groups[name]) or not _steppable(tensor):
            continue
        twin = reference.places[name].tensor if name in reference.places else None
        if twin is None or id(twin) in used or not _alike(tensor, twin):
            twin = nn.Parameter(plain(tensor).clone())
        used.add(id(twin))
        pairs[name] = (tensor, twin)
    if not pairs:
        return {}, None
    for index, (tensor, twin) in enumerate(pairs.values()):
        gradient = fill(tuple(tensor.shape), tensor.dtype, 500 + index).to(tensor.device)
        tensor.grad, twin.grad = gradient, gradient.clone()
    make_reference([twin for _, twin in pairs.values()]).step()
    try:
        make_actual([tensor for tensor, _ in pairs.values()]).step()
    except Exception as error:
        return {}, f"{type(error).__name__}: {error}"
    return {
        name: (tensor, twin)
        for name, (tensor, twin) in pairs.items()
        if not same_bits(tensor, twin)
    }, None


def _steppable(tensor: torch.Tensor) -> bool:
    return (
        tensor.requires_grad
        and tensor.is_leaf
        and tensor.dtype in _STEPPED
        and tensor.layout == torch.strided
        and not tensor.is_meta
    )


def _alike(tensor: torch.Tensor, twin: torch.Tensor) -> bool:
    return (
        _steppable(twin)
        and tensor.dtype == twin.dtype
        and tensor.shape == twin.shape
        and tensor.device == twin.device
        and same_bits(tensor, twin)
    )
