"""A training run that is saved: what the file of a resumer holds, and what is known of it.

Apart from the resuming because the run is over by then: what it knew of its optimizer, by the names
of the parameters, is the one source of truth besides the eager optimizer.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import Case, OptimizerSpec
from pytest_ckptload.contents import state_of
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.examine.trials.stepping import take_step
from pytest_ckptload.examine.trials.training import names_of_slots
from pytest_ckptload.loader import MakeOptimizer, MakeScheduler, loader_name
from pytest_ckptload.observe import observe
from pytest_ckptload.observe.state import State, saved_state
from pytest_ckptload.printable import described
from pytest_ckptload.zoo.optimizers import build_optimizer, build_scheduler, steppable

__all__ = ["STEPS", "SavedRun", "save_run"]

STEPS = 2
"""Steps that are trained before the file is written, so that there is state to lose."""


@dataclass(frozen=True)
class SavedRun:
    """What a training run saves: its ``payload``, and the optimizer's ``state`` in it by the names
    of the parameters, where its state dict is laid out as torch's are. ``make_scheduler`` made the
    scheduler, where it had one.
    """

    payload: dict[str, Any]
    state: State | None
    make_scheduler: MakeScheduler | None

    def placed(self, slots: Sequence[Sequence[str | None]]) -> State | None:
        """The state by the names of those who hold the places now, as torch gives it out."""
        return saved_state(self.payload["optimizer"], slots)

    def resume_scheduler(self, optimizer: torch.optim.Optimizer) -> Any:
        """The scheduler as it was saved, on an optimizer that was resumed; ``None`` without one."""
        if self.make_scheduler is None:
            return None
        scheduler = self.make_scheduler(optimizer)
        scheduler.load_state_dict(copy.deepcopy(self.payload["scheduler"]))
        # Making one sets learning rates.
        optimizer.load_state_dict(copy.deepcopy(self.payload["optimizer"]))
        return scheduler


def save_run(
    case: Case,
    subject: Subject,
    make_optimizer: MakeOptimizer,
    make_scheduler: MakeScheduler | None = None,
) -> SavedRun:
    """Train a module with contents of its own, so that its optimizer has state, and save both.

    Raises ``ValueError`` where ``make_optimizer`` fails for the case's module.
    """
    spec = case.optimizer or OptimizerSpec("")
    module = subject.build()
    state = state_of(subject.fresh, subject.structure, case.checkpoint)
    module.load_state_dict(state, assign=False)
    optimizer = _made(spec, make_optimizer, module)
    if make_scheduler is None and spec.scheduler is not None:
        make_scheduler = partial(build_scheduler, spec.scheduler)
    scheduler = None if make_scheduler is None else make_scheduler(optimizer)
    observation = observe(module)
    for step in range(0 if spec.trained == "none" else STEPS):
        take_step(optimizer, observation, step, every_other=spec.trained == "some")
        if scheduler is not None:
            scheduler.step()
    if scheduler is None:
        for group in optimizer.param_groups:
            # As a scheduler does: what a fresh optimizer has is not what the file holds. With None
            # it is computed in each step.
            if group.get("lr") is not None:
                group["lr"] = group["lr"] * 0.5
    saved = optimizer.state_dict()
    if spec.state_dtype is not None:
        saved["state"] = _cast(saved["state"], getattr(torch, spec.state_dtype))
    payload = {"model": module.state_dict(), "optimizer": saved}
    if scheduler is not None:
        payload["scheduler"] = scheduler.state_dict()
    slots = [names_of_slots(observation, group["params"]) for group in optimizer.param_groups]
    return SavedRun(payload, saved_state(saved, slots), make_scheduler)


def _made(spec: OptimizerSpec, make_optimizer: MakeOptimizer, module: nn.Module) -> Any:
    """The optimizer of the run that is saved, which need not be as the one that resumes it."""
    if spec.thawed:
        for parameter in module.parameters():
            if steppable(parameter, frozen=True):
                parameter.requires_grad_(True)
    if spec.reordered:
        return build_optimizer(spec, module, reverse=True)
    try:
        return make_optimizer(module)
    except Exception as error:
        raise ValueError(
            f"make_optimizer={loader_name(make_optimizer)} failed for a {type(module).__name__}: "
            f"{described(error)}"
        ) from error


def _cast(state: Any, dtype: torch.dtype) -> Any:
    """A copy of an optimizer's state with floating tensors in this dtype, but for counts."""
    if isinstance(state, dict):
        return {k: v if k == "step" else _cast(v, dtype) for k, v in state.items()}
    if isinstance(state, list):
        return [_cast(item, dtype) for item in state]
    floating = isinstance(state, torch.Tensor) and state.is_floating_point()
    return state.to(dtype) if floating else state
