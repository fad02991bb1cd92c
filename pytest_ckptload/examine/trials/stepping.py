"""Steps of an optimizer with gradients that names decide, so that two modules get the same.

Apart from ``training``, whose optimizers are its own, because these are whatever there is: some
want a closure, some gradients that are sparse, some a device that is not here.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pytest_ckptload.contents import fill
from pytest_ckptload.examine.trials.training import parameters_of
from pytest_ckptload.observe import Observation
from pytest_ckptload.observe.optimizer import optimizers_in
from pytest_ckptload.observe.tensors import plain
from pytest_ckptload.zoo import all_seeded

__all__ = ["take_step"]


def take_step(
    optimizer: Any, observation: Observation, number: int, *, every_other: bool = False
) -> float:
    """Take the step of this ``number``; the answer is the loss before it, a sum over what the
    module holds. With ``every_other``, the first parameter, the third and so on get no gradient.
    """
    within = [held for _, held in optimizers_in(optimizer)]
    sparse = any(isinstance(held, torch.optim.SparseAdam) for held in within)
    stepped = list(parameters_of(observation))[every_other :: 1 + every_other]
    losses: list[float] = []

    def closure() -> float:
        # Gradients that do not change would leave no history to save.
        start = 700 + 50 * number + len(losses)
        loss = 0.0
        for name, tensor in stepped:
            pattern = start + zlib.crc32(name.encode()) % 9973
            gradient = fill(tuple(tensor.shape), tensor.dtype, pattern).to(tensor.device)
            loss += _product(tensor, gradient)
            tensor.grad = gradient.to_sparse() if sparse else gradient
        losses.append(loss)
        # Line searches take a loss that falls, which that of these gradients need not.
        return 1.0 / len(losses)

    # Some draw random numbers in a step.
    with _uncaptured(within), all_seeded(number):
        if any(_wants_closure(held) for held in within):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    return losses[0] if losses else 0.0


def _product(tensor: torch.Tensor, gradient: torch.Tensor) -> float:
    """The sum of the elements' products, in one order whatever the strides are."""
    flat = plain(tensor).contiguous().view(-1)
    total = (flat * gradient.view(-1)).sum().item()
    return total.real + total.imag if isinstance(total, complex) else float(total)


def _wants_closure(optimizer: Any) -> bool:
    """Whether a step takes a function that computes the loss anew, and cannot do without."""
    # Its class', since schedulers put a function of their own over that of the object.
    step = getattr(type(optimizer), "step", optimizer.step)
    try:
        parameters = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):  # of those that are no Python functions
        return False
    given = [p for p in parameters if p.name != "self" and p.kind is p.POSITIONAL_OR_KEYWORD]
    return any(p.default is p.empty for p in given)


@contextmanager
def _uncaptured(optimizers: Sequence[Any]) -> Iterator[None]:
    """Groups that were made to be captured, which torch does not step on a CPU, are not inside."""
    groups = [
        group
        for optimizer in optimizers
        for group in optimizer.param_groups
        if group.get("capturable") and any(p.device.type == "cpu" for p in group["params"])
    ]
    for group in groups:
        group["capturable"] = False
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = True
