"""The pipeline for training, for one case: train, write, resume both ways, observe, judge, step.

Apart from the checker because the file holds an optimizer as well, and because the resumer's own
optimizer is what is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import Case, OptimizerSpec
from pytest_ckptload.checker import accused, compare
from pytest_ckptload.contents import dtypes_in, state_of, write
from pytest_ckptload.finding import Finding, Verdict
from pytest_ckptload.loader import MakeOptimizer, Resumer, loader_name
from pytest_ckptload.loads import Loaded, attempt, folder, quiet, renamed
from pytest_ckptload.observe import observe
from pytest_ckptload.printable import described
from pytest_ckptload.progress import stage
from pytest_ckptload.recipes import eager_resume
from pytest_ckptload.reference import Demands, reference_of
from pytest_ckptload.rules import Aftermath, Attempt, FileFacts, Training, judge
from pytest_ckptload.subject import Subject
from pytest_ckptload.torch_state import preserved
from pytest_ckptload.trials.optimizers import kept_as_saved, shared_with, side_by_side
from pytest_ckptload.trials.reloading import changed_by_loading
from pytest_ckptload.trials.stepping import take_step
from pytest_ckptload.trials.surroundings import Surroundings
from pytest_ckptload.trials.training import unlike_after
from pytest_ckptload.zoo.optimizers import build_scheduler, steppable

__all__ = ["adamw", "examine_resume"]

# Steps that are trained before the file is written, so that there is state to lose.
_STEPS = 2


def adamw(module: nn.Module) -> torch.optim.Optimizer:
    """AdamW over the parameters that can be stepped: where nothing says which optimizer."""
    return OptimizerSpec("AdamW", {"lr": 0.125}).build(module)


def examine_resume(
    case: Case,
    resume: Resumer,
    make_optimizer: MakeOptimizer | None,
    device: torch.device,
    subject: Subject | None = None,
    where: Path | None = None,
) -> Verdict:
    """Every finding of ``resume`` on a file that a short training of the case's module wrote.

    The optimizer is the case's own where ``make_optimizer`` is ``None``. A case without a parameter
    that can be stepped has nothing to train, and no finding.
    """
    if make_optimizer is None:
        make_optimizer = adamw if case.optimizer is None else case.optimizer.build
    subject = Subject.of(case) if subject is None or case.module is not None else subject
    if not any(steppable(p, meta=True) for p in subject.fresh.parameters()):
        return Verdict()
    with preserved(), folder(where) as empty:
        path = empty / "checkpoint.pt"
        with quiet(), stage("writing"):
            payload = _trained(case, subject, make_optimizer)
            write(payload, path)
            path = renamed(path)
        again = not case.features
        found = _examine(subject, payload, resume, make_optimizer, path, device, again)
        return Verdict(
            tuple(found),
            judged=True,
            dtypes=dtypes_in(payload["model"]),
            optimizer=loader_name(make_optimizer),
        )


def _trained(case: Case, subject: Subject, make_optimizer: MakeOptimizer) -> dict[str, Any]:
    """What a training run saves: a module with contents of its own, and an optimizer with state."""
    spec = case.optimizer or OptimizerSpec("")
    module = subject.build()
    state = state_of(subject.fresh, subject.structure, case.checkpoint)
    module.load_state_dict(state, assign=False)
    optimizer = make_optimizer(module)
    scheduler = build_scheduler(spec.scheduler, optimizer) if spec.scheduler else None
    observation = observe(module)
    for step in range(0 if spec.trained == "none" else _STEPS):
        take_step(optimizer, observation, step, every_other=spec.trained == "some")
        if scheduler is not None:
            scheduler.step()
    if scheduler is None:
        for group in optimizer.param_groups:
            # As a scheduler does: what a fresh optimizer has is not what the file holds.
            if "lr" in group:
                group["lr"] = group["lr"] * 0.5
    saved = optimizer.state_dict()
    if spec.state_dtype is not None:
        saved["state"] = _cast(saved["state"], getattr(torch, spec.state_dtype))
    payload = {"model": module.state_dict(), "optimizer": saved}
    return payload if scheduler is None else {**payload, "scheduler": scheduler.state_dict()}


def _cast(state: Any, dtype: torch.dtype) -> Any:
    """A copy of an optimizer's state with floating tensors in this dtype, but for counts."""
    if isinstance(state, dict):
        return {k: v if k == "step" else _cast(v, dtype) for k, v in state.items()}
    if isinstance(state, list):
        return [_cast(item, dtype) for item in state]
    floating = isinstance(state, torch.Tensor) and state.is_floating_point()
    return state.to(dtype) if floating else state


def _examine(
    subject: Subject,
    payload: Mapping[str, Any],
    resume: Resumer,
    make_optimizer: MakeOptimizer,
    path: Path,
    device: torch.device,
    again: bool,
) -> list[Finding]:
    with quiet(), stage("reference"):
        eager_module, eager_optimizer = eager_resume(
            subject.construct, make_optimizer, path, device
        )
    before = _bytes(path)
    around = Surroundings(path)

    def load() -> Loaded:
        return attempt(
            lambda: resume(subject.construct, make_optimizer, path, device), fill=subject.fillable
        )

    loaded = load()
    returned, error = loaded.returned, loaded.error
    findings = judge(Attempt("load", frozenset(), error, _unfit(returned, error)))
    findings += judge(Aftermath(loaded.left.changed, **around.since()))
    after = trained = _bytes(path)
    if error is None and not findings:
        module, optimizer = returned
        reference = reference_of(eager_module, payload["model"], subject, Demands())
        with quiet(), stage("observation"):
            findings += compare(module, reference)
        with quiet(), stage("training"):
            findings += _judge_optimizer(
                module, optimizer, eager_module, eager_optimizer, payload, accused(findings)
            )
        if again and not findings:
            with quiet(), stage("second load"):
                findings += _judge_second(module, optimizer, load())
        trained = _bytes(path)
    return findings + judge(FileFacts(before, after, trained))


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _unfit(returned: Any, error: BaseException | None) -> str | None:
    """What a resumer returned in place of a module and an optimizer."""
    if error is not None:
        return None
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        return f"a {type(returned).__name__}, expected (module, optimizer)"
    module, optimizer = returned
    if not isinstance(module, nn.Module):
        return f"a {type(module).__name__} for a module"
    if not isinstance(getattr(optimizer, "param_groups", None), list):
        return f"a {type(optimizer).__name__} for an optimizer"
    return None


def _judge_optimizer(
    module: nn.Module,
    optimizer: Any,
    eager_module: nn.Module,
    eager_optimizer: torch.optim.Optimizer,
    payload: Mapping[str, Any],
    exempt: frozenset[str],
) -> list[Finding]:
    actual, eager = observe(module), observe(eager_module)
    training = side_by_side(actual, eager, optimizer, eager_optimizer, payload, exempt)
    findings = judge(training)
    if findings:
        return findings  # what a step does now is a consequence
    exempt |= kept_as_saved(training)
    try:
        take_step(eager_optimizer, eager, _STEPS)
    except Exception:
        return []  # torch's own, whoever loads
    # References and state were judged before the step, which changes the state in place.
    stepped = Training(actual, eager, [], [], exempt=exempt)
    try:
        take_step(optimizer, actual, _STEPS)
    except Exception as error:
        stepped.error = described(error)
    else:
        stepped.steps = unlike_after(actual, eager, exempt)
    stepped.changed = changed_by_loading(optimizer)
    return judge(stepped)


def _judge_second(module: nn.Module, optimizer: Any, loaded: Loaded) -> list[Finding]:
    """What the state of an optimizer has in common with that of another, resumed as it was."""
    if loaded.error is not None or _unfit(loaded.returned, None) is not None:
        return []  # it may be used once
    other_module, other = loaded.returned
    return judge(shared_with(observe(module), optimizer, observe(other_module), other))
