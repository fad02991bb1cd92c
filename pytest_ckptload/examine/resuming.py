"""The pipeline for training, for one case: train, write, resume both ways, observe, judge, step.

Apart from the pipeline because the file holds an optimizer as well, and because the resumer's own
optimizer is what is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import Case, OptimizerSpec
from pytest_ckptload.contents import dtypes_in, write
from pytest_ckptload.examine.examination import accused, compare
from pytest_ckptload.examine.loads import Loaded, attempt, folder, quiet, renamed, without
from pytest_ckptload.examine.progress import stage
from pytest_ckptload.examine.reference import Demands, reference_of
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.examine.trials.continuing import Run, go_on, is_of_others, put_state
from pytest_ckptload.examine.trials.optimizers import shared_with, side_by_side
from pytest_ckptload.examine.trials.reloading import changed_by_loading
from pytest_ckptload.examine.trials.saving import STEPS, SavedRun, save_run
from pytest_ckptload.examine.trials.surroundings import Surroundings
from pytest_ckptload.finding import Finding, Verdict
from pytest_ckptload.loader import MakeOptimizer, MakeScheduler, Resumer, loader_name
from pytest_ckptload.machine.torch_state import poisoned, preserved
from pytest_ckptload.observe import observe
from pytest_ckptload.printable import described
from pytest_ckptload.recipes import eager_resume
from pytest_ckptload.rules import Aftermath, Attempt, FileFacts, judge
from pytest_ckptload.rules.comparison import Reference
from pytest_ckptload.zoo.optimizers import steppable

__all__ = ["adamw", "examine_resume", "nadam"]


def adamw(module: nn.Module) -> torch.optim.Optimizer:
    """AdamW over the parameters that can be stepped: where nothing says which optimizer."""
    return OptimizerSpec("AdamW", {"lr": 0.125}).build(module)


def nadam(module: nn.Module) -> torch.optim.Optimizer:
    """NAdam over the same, which counts in float32 whatever the parameters are."""
    return OptimizerSpec("NAdam", {"lr": 0.125}).build(module)


def examine_resume(
    case: Case,
    resume: Resumer,
    make_optimizer: MakeOptimizer | None,
    device: torch.device,
    subject: Subject | None = None,
    where: Path | None = None,
    make_scheduler: MakeScheduler | None = None,
) -> Verdict:
    """Every finding of ``resume`` on a file that a short training of the case's module wrote.

    The optimizer is the case's own where ``make_optimizer`` is ``None``, and so is the scheduler. A
    case without a parameter that can be stepped has nothing to train, and no finding.
    """
    if make_optimizer is None:
        make_optimizer = adamw if case.optimizer is None else case.optimizer.build
    subject = Subject.of(case) if subject is None or case.module is not None else subject
    if not any(steppable(p, meta=True) for p in subject.fresh.parameters()):
        return Verdict()
    with preserved(), folder(where) as empty:
        path = empty / "checkpoint.pt"
        with quiet(), stage("writing"):
            saved = save_run(case, subject, make_optimizer, make_scheduler)
            write(saved.payload, path)
            path = renamed(path)
        verdict = partial(
            Verdict,
            dtypes=dtypes_in(saved.payload["model"]),
            optimizer=loader_name(make_optimizer),
        )

        def resumed(resume: Resumer) -> Any:
            return resume(subject.construct, make_optimizer, path, device)

        try:
            with quiet() as said, stage("reference"):
                eager_module, *eager = resumed(eager_resume)
        except Exception as error:
            if device.type == "cpu":
                raise
            return verdict(refused=described(error))

        def load() -> Loaded:
            with without(said):
                return attempt(lambda: resumed(resume), device, fill=subject.fillable)

        reference = reference_of(eager_module, saved.payload["model"], subject, Demands())
        twin = Run(reference.eager, *eager)
        found = _examine(load, reference, twin, saved, path, again=not case.features)
        return verdict(tuple(found), judged=True)


def _examine(
    load: Callable[[], Loaded],
    reference: Reference,
    eager: Run,
    saved: SavedRun,
    path: Path,
    again: bool,
) -> list[Finding]:
    before = _bytes(path)
    around = Surroundings(path)
    loaded = load()
    returned, error = loaded.returned, loaded.error
    findings = judge(Attempt("load", frozenset(), error, _unfit(returned, error)))
    findings += judge(Aftermath(loaded.left.changed, **around.since()))
    after = trained = _bytes(path)
    if error is None and not findings:
        module, *resumed = returned
        with quiet(), stage("observation"):
            findings += compare(module, reference)
        # Not for new memory: for operations that have a deterministic form, on devices.
        with quiet(), stage("training"), poisoned(fill=False):
            actual = Run(observe(module), *resumed)
            if actual.scheduler is not None:
                eager.scheduler = saved.resume_scheduler(eager.optimizer)
                if eager.scheduler is None:
                    actual.scheduler = None  # of the resumer's own, which no file had
            findings += _judge_training(actual, eager, saved, accused(findings))
        if again and not any(not finding.advice for finding in findings):
            with quiet(), stage("second load"):
                findings += _judge_second(actual, load())
        trained = _bytes(path)
    return findings + judge(FileFacts(before, after, trained))


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _unfit(returned: Any, error: BaseException | None) -> str | None:
    """What a resumer returned in place of a module and an optimizer."""
    if error is not None:
        return None
    if not isinstance(returned, tuple | list) or len(returned) not in (2, 3):
        return f"a {type(returned).__name__}, expected (module, optimizer)"
    module, optimizer, *scheduler = returned
    if not isinstance(module, nn.Module):
        return f"a {type(module).__name__} for a module"
    if not isinstance(getattr(optimizer, "param_groups", None), list):
        return f"a {type(optimizer).__name__} for an optimizer"
    if any(s is not None and not hasattr(s, "state_dict") for s in scheduler):
        return f"a {type(scheduler[0]).__name__} for a scheduler"
    return None


def _judge_training(
    actual: Run, eager: Run, saved: SavedRun, exempt: frozenset[str]
) -> list[Finding]:
    training = side_by_side(actual, eager, saved, exempt)
    findings = judge(training)
    if any(not finding.advice for finding in findings):
        return findings  # what a step does now is a consequence
    # References and state were judged before the steps, which change the state in place.
    put_state(eager, training.eager_state, exempt)
    if is_of_others(eager, saved.state):
        return findings
    gone_on = go_on(actual, eager, STEPS, exempt)
    gone_on.changed = changed_by_loading(actual.optimizer)
    return findings + judge(gone_on)


def _judge_second(first: Run, loaded: Loaded) -> list[Finding]:
    """What the state of an optimizer has in common with that of another, resumed as it was."""
    if loaded.error is not None or _unfit(loaded.returned, None) is not None:
        return []  # it may be used once
    module, *resumed = loaded.returned
    return judge(shared_with(first, Run(observe(module), *resumed)))
