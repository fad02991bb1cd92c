"""``check`` and its like: the object behind the ``ckptload`` fixture and behind the suite.

Apart from the fixtures because it knows nothing of pytest, and from ``runs`` because this half is
about what people ask for: arguments are checked here, and settled.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.allowances import Allow, Allowance, Allowances, allowances
from pytest_ckptload.case import Case
from pytest_ckptload.checks.control import controlled
from pytest_ckptload.checks.factory import user_subject
from pytest_ckptload.checks.ingredients import ingredients_of
from pytest_ckptload.checks.inputs import (
    check_codes,
    check_consistent,
    check_features,
    check_loader,
    check_names,
    features_of,
    listed,
    not_promised,
)
from pytest_ckptload.checks.optimizer_factory import try_optimizer
from pytest_ckptload.checks.runs import Defaults, Examine, Report, Runner, Target
from pytest_ckptload.examine.given import checked_path
from pytest_ckptload.examine.pipeline import examine, examine_file, examine_loaded
from pytest_ckptload.examine.reference import Demands
from pytest_ckptload.examine.resuming import adamw, examine_resume
from pytest_ckptload.examine.trials.training import prepare
from pytest_ckptload.examine.written import WrittenCase
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.loader import (
    Build,
    Inputs,
    Loader,
    MakeOptimizer,
    MakeScheduler,
    Resumer,
    Save,
    loader_name,
)
from pytest_ckptload.recipes import eager, eager_resume
from pytest_ckptload.report.script import script
from pytest_ckptload.report.text import findings_text
from pytest_ckptload.rules.causes import folded
from pytest_ckptload.strategies import resume_cases, resume_covering
from pytest_ckptload.tried import Tried

# Errors raised here are sentences for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

__all__ = ["PROMISES", "Checker", "Defaults", "Report"]

PROMISES = ("strict", "robust", "formats", "detached", "rng", "ambient")


class Checker:
    """Checks loaders.

    ``node`` is the id of the test it serves, ``options`` what else a command needs to run that test
    again; ``record`` is told of every check that passed.
    """

    def __init__(
        self,
        defaults: Defaults | None = None,
        node: str | None = None,
        options: Sequence[str] = (),
        record: Callable[[Report], None] = lambda report: None,
    ) -> None:
        self.defaults = defaults or Defaults()
        self._runner = Runner(self.defaults, node, options, record)

    @property
    def tried(self) -> Tried:
        """What was in the cases of all checks so far."""
        return self._runner.tried

    @property
    def allowances(self) -> dict[Allowance, bool]:
        """Each allowance that a check was given so far, and whether any check used it."""
        return self._runner.allowances

    def at_random(self) -> Checker:
        """The same for random cases alone: for who has gone through the fixed ones."""
        other = copy.copy(self)
        other._runner = copy.copy(self._runner)
        other._runner.defaults = replace(self.defaults, covering=False)
        return other

    def hasty(self, features: Sequence[str] = (), **limits: Any) -> Checker:
        """The same for who asks whether there is a finding at all: it ends at the first, tries
        cases with these features before others, and counts and records nothing. ``limits`` are for
        a loader that is known to exceed others.
        """
        defaults = replace(self.defaults, hasty=tuple(features), shrink=False, **limits)
        return Checker(defaults)

    def check(
        self,
        loader: Loader,
        *,
        build: Build | None = None,
        inputs: Inputs | None = None,
        checkpoint: str | Path | None = None,
        features: Sequence[str] | None = None,
        without: Sequence[str] = (),
        promises: Collection[str] = (),
        allow: Mapping[str, str] | Allow | None = None,
        semantics: str | None = None,
        dtype: torch.dtype | None = None,
        reference: Loader | None = None,
        save: Save | None = None,
        devices: Sequence[str | torch.device] | None = None,
        max_examples: int | None = None,
    ) -> Report:
        """Assert that ``loader`` gives the module that eager loading gives.

        Args:
            loader: Called as ``loader(build, path, device)``; returns the loaded ``nn.Module``.
            build: Makes the module. Left out, modules are generated.
            inputs: Makes what the module is called with, to compare outputs and gradients: a tensor
                or other argument, a tuple of them, or a dict of keyword arguments.
            checkpoint: This very file instead of generated ones. It is only read. Without ``build``
                the module is made from the file's own names, shapes and dtypes.
            features: Generate these features only.
            without: Generate all features but these.
            promises: Demands beyond the mission: ``"strict"`` (a file with a key too few or too
                many is refused), ``"robust"`` (so is a damaged file that the eager recipe
                refuses), ``"formats"`` (files of other formats than that of today's ``torch.save``
                are loaded), ``"detached"`` (the model survives truncating and saving over its
                file), ``"rng"`` (torch's random state is as after eager loading), ``"ambient"``
                (the load gives the same under any default device).
            allow: What is accepted here, besides what the marker and the option allow: codes of
                rules, each with a reason. A pattern of names may follow the code,
                ``{"CKPT203 encoder.*": "why"}``.
            semantics: ``"assign"`` or ``"copy"``: whose dtypes and strides the module has, the
                file's or its own. Left out, either, throughout one module.
            dtype: The loader casts floating tensors to this dtype: so does the reference.
            reference: Compare with this loader instead of the eager recipe.
            save: ``save(module, path)`` writes the file, in any format; needs ``build``. The
                module in memory is what is loaded, or what ``reference`` makes of the file, which
                may hold a part.
            devices: Devices to load on. Left out, all that are available.
            max_examples: Random cases for each device, after the fixed ones.

        Returns:
            What was tried.

        Raises:
            CheckpointMismatch: The loader does not; it carries ``findings`` and ``case``.
            TypeError, ValueError: An argument is not what it must be.
        """
        check_loader(loader)
        promises = check_names("promise", promises or self.defaults.promises, PROMISES)
        check_consistent(build, inputs, checkpoint, save, semantics, dtype)
        chosen, left_out = self._features(features, without, build is None and checkpoint is None)
        left_out = (*left_out, *not_promised(promises, features))
        subject = None if build is None else user_subject(build, inputs)
        demands = Demands(frozenset(promises), semantics, dtype, reference, save)

        def examining(loader: Loader, demands: Demands) -> Examine:
            return controlled(
                lambda loader: (
                    lambda case, device, where: examine(
                        case, loader, device, demands, subject, where
                    )
                ),
                loader,
                demands.reference or partial(eager, dtype=demands.dtype),
            )

        target = Target(
            loader_name(loader),
            examining(loader, demands),
            self._allowing(allow),
            subject,
            "" if build is None else getattr(build, "__qualname__", "build"),
            chosen,
            left_out if save is None else (*left_out, *features_of("checkpoint")),
        )
        if reference is not None:
            target.reference = loader_name(reference)
        if checkpoint is not None:
            path = checked_path(checkpoint)
            target.examine = lambda case, device, _: examine_file(
                path, loader, device, demands, subject
            )
            target.subject_name, target.fixed = path.name, [Case()]
            return self._runner.run(target, devices, max_examples)
        # None of them casts: so they are not asked to.
        uncast = replace(demands, dtype=None)
        target.ingredients = {
            name: examining(alone, uncast) for name, alone in ingredients_of(loader).items()
        }
        if save is None and reference is None:
            target.quote = lambda found, device: script(
                found.case, found.findings, loader, dtype=dtype, build=build, device=device
            )
        return self._runner.run(target, devices, max_examples)

    def check_resume(
        self,
        resume: Resumer,
        *,
        build: Build | None = None,
        make_optimizer: MakeOptimizer | None = None,
        make_scheduler: MakeScheduler | None = None,
        features: Sequence[str] | None = None,
        without: Sequence[str] = (),
        allow: Mapping[str, str] | Allow | None = None,
        devices: Sequence[str | torch.device] | None = None,
        max_examples: int | None = None,
    ) -> Report:
        """Assert that ``resume`` gives the module and the optimizer that eager resuming gives, and
        that training goes on from there to the same bytes.

        The file holds ``{"model": …, "optimizer": …}``, written after two steps of training, and
        where a scheduler took part, its state under ``"scheduler"``.

        Args:
            resume: Called as ``resume(build, make_optimizer, path, device)``; returns the module
                and its optimizer.
            build: Makes the module. Left out, modules are generated.
            make_optimizer: Makes an optimizer for a module. Left out, optimizers are generated: of
                every class of ``torch.optim``, over the parameters that it can step.
            make_scheduler: Makes a scheduler for an optimizer. Where ``resume`` returns one as a
                third, ``(module, optimizer, scheduler)``, it is judged and steps along. Left out,
                some of the optimizers that are generated have one.
            features: Generate these features of modules and of optimizers only.
            without: Generate all features but these.
            allow: What is accepted here, besides what the marker and the option allow: codes of
                rules, each with a reason. A pattern of names may follow the code,
                ``{"CKPT203 encoder.*": "why"}``.
            devices: Devices to resume on. Left out, all that are available.
            max_examples: Random cases for each device, after the fixed ones.

        Returns:
            What was tried.

        Raises:
            CheckpointMismatch: The resumer does not; it carries ``findings`` and ``case``.
            TypeError, ValueError: An argument is not what it must be.
        """
        check_loader(resume, "build, make_optimizer, path, device")
        prepare()
        optimizers = make_optimizer is None
        chosen, left_out = self._features(features, without, build is None, optimizers)
        subject = None if build is None else user_subject(build)
        if make_optimizer is not None or make_scheduler is not None:
            try_optimizer(make_optimizer or adamw, make_scheduler, subject)
        if make_scheduler is not None:
            left_out = (*left_out, "scheduler")

        def examining(resume: Resumer) -> Examine:
            return controlled(
                lambda resume: (
                    lambda case, device, where: examine_resume(
                        case, resume, make_optimizer, device, subject, where, make_scheduler
                    )
                ),
                resume,
                eager_resume,
            )

        target = Target(
            loader_name(resume),
            examining(resume),
            self._allowing(allow),
            subject,
            "" if build is None else getattr(build, "__qualname__", "build"),
            chosen,
            (*left_out, *features_of("checkpoint")),
        )
        target.ingredients = {
            name: examining(alone) for name, alone in ingredients_of(resume).items()
        }
        if optimizers:
            target.covering, target.random = resume_covering, resume_cases
        return self._runner.run(target, devices, max_examples)

    def assert_matches_eager(self, module: nn.Module, case: WrittenCase) -> None:
        """Assert that ``module`` is what eager loading of ``case`` gives.

        Args:
            module: The module that a loader made from ``case.build`` and ``case.path``, on any
                device.
            case: A written case, as the fixture ``ckptload_case`` hands out.

        Raises:
            CheckpointMismatch: It is not; the error carries ``findings`` and ``case``.
            TypeError: ``module`` is no ``nn.Module``.
        """
        if not isinstance(module, nn.Module):
            raise TypeError(f"expected the loaded nn.Module, not a {type(module).__name__}")
        allow = self._allowing(None)
        findings = [f for f in examine_loaded(module, case) if allow(f, case.case) is None]
        self._runner.account(allow, complete=self.defaults.replay is None)
        failing = folded(f for f in findings if self.defaults.strict or not f.advice)
        if failing:
            title = "The module is not the one that eager loading gives."
            raise CheckpointMismatch(f"{title}\n\n{findings_text(failing)}", failing, case.case)

    def _allowing(self, allow: Mapping[str, str] | Allow | None) -> Allowances:
        """What is allowed in a check. Raises ``ValueError`` for a code that no rule has."""
        known = allow if callable(allow) else None
        own = () if allow is None or callable(allow) else allowances(allow)
        allowing = Allowances((*own, *self.defaults.allow), known)
        check_codes(allowing.codes)
        return allowing

    def _features(
        self,
        features: Sequence[str] | None,
        without: Sequence[str],
        generated: bool,
        optimizers: bool = False,
    ) -> tuple[Sequence[str] | None, tuple[str, ...]]:
        features, without = listed(features), listed(without) or ()
        chosen = features if features is not None else self.defaults.features
        left_out = without or self.defaults.without
        # Those of the command line are for every test: they need not fit each.
        check_features(features, without, generated=generated, optimizers=optimizers)
        return chosen, left_out
