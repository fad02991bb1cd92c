"""Assertions for any test: no fixtures, no Hypothesis.

Apart because they compare what the caller hands in, with no case and no file behind it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pytest_ckptload.caller import line_to_move
from pytest_ckptload.examine.trials.training import names_of_slots
from pytest_ckptload.finding import CheckpointMismatch, Finding
from pytest_ckptload.observe import Observation, observe
from pytest_ckptload.observe.optimizer import Groups, groups_of
from pytest_ckptload.report.text import findings_text
from pytest_ckptload.rules import Comparison, Training, judge
from pytest_ckptload.rules.causes import folded
from pytest_ckptload.rules.comparison import Reference

__all__ = ["assert_modules_equal", "assert_optimizer_tracks"]


def assert_modules_equal(actual: nn.Module, expected: nn.Module) -> None:
    """Assert that two modules are the same bit by bit: values, dtypes, strides, ties, kinds, flags.

    Args:
        actual: The module to judge, on any device.
        expected: What it is to be.

    Raises:
        CheckpointMismatch: They differ; the message has a paragraph for each rule that is broken.
        TypeError: One of them is no ``nn.Module``.
    """
    __tracebackhide__ = True
    for module in (actual, expected):
        if not isinstance(module, nn.Module):
            raise TypeError(f"expected an nn.Module, not a {type(module).__name__}")
    # Nothing comes from a file here: the expected module says the values, too.
    comparison = Comparison(observe(actual), Reference(observe(expected), {}))
    _raise_for("The modules differ.", judge(comparison))


def assert_optimizer_tracks(optimizer: Any, module: nn.Module) -> None:
    """Assert that an optimizer refers to each trainable parameter of a module once, and to no
    other.

    Args:
        optimizer: An optimizer, a wrapper with ``param_groups`` of its own, or what holds one, as a
            scheduler does. Of a wrapper, the optimizers inside are judged as well: copies that they
            keep of the parameters (master weights, say) have to have their values.
        module: The module that it is to train. Frozen parameters may have a place in the optimizer.

    Raises:
        CheckpointMismatch: It does not; the message names the parameters, and where the caller's
            own code makes the optimizer too soon, the line to move.
        TypeError: ``optimizer`` is none and holds none, or ``module`` is no ``nn.Module``.
    """
    __tracebackhide__ = True
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected an nn.Module, not a {type(module).__name__}")
    groups = [] if isinstance(optimizer, type) else groups_of(optimizer)
    if not groups:
        what = getattr(optimizer, "__name__", f"a {type(optimizer).__name__}")
        raise TypeError(f"{what} has no param_groups and holds no optimizer: it is none")
    outer, *inner = groups
    seen = observe(module)
    training = Training(
        seen,
        seen,
        outer.slots,
        _wanted(seen, outer),
        where=outer.where,
        inner={held.where: held.slots for held in inner},
    )
    findings = judge(training)
    frame = sys._getframe(1)
    if findings and (line := line_to_move(frame, "assert_optimizer_tracks")) is not None:
        findings = [replace(f, fix=line) if f.code in _MADE_TOO_SOON else f for f in findings]
    _raise_for("The optimizer does not track the module.", findings)


# What an optimizer that was made too soon gets wrong.
_MADE_TOO_SOON = ("CKPT501", "CKPT502")


def _wanted(seen: Observation, outer: Groups) -> list[list[str | None]]:
    """The names that belong in the places of the optimizer's groups, as far as can be told: what is
    in a place that it should not be is called by the name that the group gives it, or taken for the
    first parameter like it that no place has. What is left to be trained is one more group.
    """
    parameters = list(seen.module.parameters())
    held = {id(parameter) for slots in outer.slots for parameter in slots}
    names = [str(name) for name in names_of_slots(seen, parameters)]
    missed = {n: p for n, p in zip(names, parameters, strict=True) if id(p) not in held}
    wanted: list[list[str | None]] = []
    for group, slots in zip(outer.groups, outer.slots, strict=True):
        called = group.get("param_names") or [None] * len(slots)
        wanted.append([])
        for name, tensor, known in zip(called, slots, names_of_slots(seen, slots), strict=True):
            alike = (n for n, p in missed.items() if _could_be(tensor, p))
            chosen = known or (name if name in missed else next(alike, ""))
            missed.pop(chosen, None)
            wanted[-1].append(chosen)
    return [*wanted, [name for name, parameter in missed.items() if parameter.requires_grad]]


def _could_be(tensor: torch.Tensor, parameter: torch.Tensor) -> bool:
    return (tensor.shape, tensor.requires_grad) == (parameter.shape, parameter.requires_grad)


def _raise_for(title: str, findings: list[Finding]) -> None:
    __tracebackhide__ = True
    failing = folded(finding for finding in findings if not finding.advice)
    if failing:
        raise CheckpointMismatch(f"{title}\n\n{findings_text(failing)}", failing)
