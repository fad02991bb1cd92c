"""Steps of an optimizer with gradients that names decide, so that two modules get the same.

Apart from ``training``, whose optimizers are its own, because these are whatever there is: some
want a closure, some gradients that are sparse, some a device that is not here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pytest_ckptload.contents import fill
from pytest_ckptload.observe import Observation
from pytest_ckptload.observe.optimizer import optimizers_in
from pytest_ckptload.trials.training import parameters_of

__all__ = ["take_step"]


def take_step(
    optimizer: Any, observation: Observation, number: int, *, every_other: bool = False
) -> None:
    """Take the step of this ``number``; with ``every_other``, the first parameter, the third and so
    on get no gradient.
    """
    sparse = _is_or_holds(optimizer, torch.optim.SparseAdam)
    stepped = list(parameters_of(observation))[every_other :: 1 + every_other]

    def set_gradients(start: int) -> None:
        for name, tensor in stepped:
            pattern = start + zlib.crc32(name.encode()) % 9973
            gradient = fill(tuple(tensor.shape), tensor.dtype, pattern).to(tensor.device)
            tensor.grad = gradient.to_sparse() if sparse else gradient

    evaluations = 0

    def closure() -> float:
        # Gradients that do not change would leave no history to save.
        nonlocal evaluations
        evaluations += 1
        set_gradients(700 + 50 * number + evaluations)
        return 1.0 / evaluations

    with _uncaptured(optimizer):
        if _is_or_holds(optimizer, torch.optim.LBFGS):
            optimizer.step(closure)
        else:
            set_gradients(700 + 50 * number)
            optimizer.step()


def _is_or_holds(optimizer: Any, kind: type) -> bool:
    return any(isinstance(held, kind) for _, held in optimizers_in(optimizer))


@contextmanager
def _uncaptured(optimizer: Any) -> Iterator[None]:
    """Groups that were made to be captured, which torch does not step on a CPU, are not inside."""
    groups = [
        group
        for _, held in optimizers_in(optimizer)
        for group in held.param_groups
        if group.get("capturable") and any(p.device.type == "cpu" for p in group["params"])
    ]
    for group in groups:
        group["capturable"] = False
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = True
