"""Assertions for any test: no fixtures, no Hypothesis.

Apart because they compare what the caller hands in, with no case and no file behind it.
"""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.finding import CheckpointMismatch, Finding
from pytest_ckptload.observe import observe
from pytest_ckptload.report.text import findings_text
from pytest_ckptload.rules import Comparison, Training, judge
from pytest_ckptload.rules.causes import folded
from pytest_ckptload.rules.comparison import Reference
from pytest_ckptload.trials.training import names_of_slots

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


def assert_optimizer_tracks(optimizer: torch.optim.Optimizer, module: nn.Module) -> None:
    """Assert that an optimizer refers to each trainable parameter of a module once, and to no
    other.

    Args:
        optimizer: An optimizer, or a wrapper with ``param_groups`` of its own.
        module: The module that it is to train. Frozen parameters may have a place in the optimizer.

    Raises:
        CheckpointMismatch: It does not; the message names the parameters.
        TypeError: ``optimizer`` has no ``param_groups``, or ``module`` is no ``nn.Module``.
    """
    __tracebackhide__ = True
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected an nn.Module, not a {type(module).__name__}")
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list):
        raise TypeError(f"a {type(optimizer).__name__} has no param_groups: it is no optimizer")
    seen = observe(module)
    trainable = names_of_slots(seen, (p for p in module.parameters() if p.requires_grad))
    slots = [list(group["params"]) for group in groups]
    training = Training(seen, seen, slots, [trainable])
    _raise_for("The optimizer does not track the module.", judge(training))


def _raise_for(title: str, findings: list[Finding]) -> None:
    __tracebackhide__ = True
    failing = folded(finding for finding in findings if not finding.advice)
    if failing:
        raise CheckpointMismatch(f"{title}\n\n{findings_text(failing)}", failing)
