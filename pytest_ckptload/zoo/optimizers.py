"""The classes of ``torch.optim`` and the arguments they take; here a spec becomes an optimizer.

Apart from the features, which say what else is done to an optimizer. Each argument is free of the
others: those that depend on each other are one choice, so that nothing is ever drawn in vain. What
a class cannot step, it is not given: so a spec is valid for every module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.torch_version import TorchVersion

from pytest_ckptload.case import GroupSpec, OptimizerSpec

if TYPE_CHECKING:
    from pytest_ckptload.zoo.feature import Choose

__all__ = [
    "NAMED",
    "OPTIMIZERS",
    "SCHEDULERS",
    "OptimizerEntry",
    "build_optimizer",
    "build_scheduler",
    "steppable",
    "with_implementation",
]

NAMED: bool = TorchVersion(torch.__version__) >= "2.6"
"""Whether the installed torch makes optimizers from named parameters."""

_Arguments = Mapping[str, Any]

# What optimizers can step on every build of torch.
_STEPPED = {
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.complex128,
}


def steppable(tensor: torch.Tensor, *, meta: bool = False, frozen: bool = False) -> bool:
    """Whether an optimizer can step this tensor; ``meta=True`` for one that is to be filled yet,
    ``frozen=True`` for one that requires no gradient for now.
    """
    if nn.parameter.is_lazy(tensor):
        return meta and (frozen or tensor.requires_grad)
    return (
        (frozen or tensor.requires_grad)
        and tensor.is_leaf
        and not tensor.is_inference()
        and tensor.dtype in _STEPPED
        and tensor.layout == torch.strided
        and (meta or not tensor.is_meta)
    )


@dataclass(frozen=True)
class OptimizerEntry:
    """One class of ``torch.optim``, and the arguments it may be built with.

    ``choices`` are options of arguments that go together, simplest first; ``takes`` says which
    tensors the class steps; ``grouped``, whether it knows groups.
    """

    name: str
    choices: tuple[tuple[_Arguments, ...], ...]
    takes: Callable[[torch.Tensor], bool] = lambda tensor: True
    grouped: bool = True

    def kwargs(self, choose: Choose) -> dict[str, Any]:
        """Arguments for the class, JSON-able: those of one option of each choice."""
        chosen: dict[str, Any] = {}
        for options in self.choices:
            chosen |= choose(options)
        return chosen

    def accepts(self, argument: str) -> bool:
        """Whether the installed torch's class has this argument."""
        return argument in inspect.signature(getattr(torch.optim, self.name)).parameters


def _real(tensor: torch.Tensor) -> bool:
    return not tensor.is_complex()


def _values(argument: str, *values: Any) -> tuple[_Arguments, ...]:
    """One choice of one argument; ``None`` leaves it out."""
    return tuple({} if value is None else {argument: value} for value in values)


# Steps that every dtype can see, and learning rates that every dtype holds.
_LR = _values("lr", 0.125, 0.5)
_DECAY = _values("weight_decay", None, 0.25)
_MAXIMIZE = _values("maximize", None, True)
_BETAS = _values("betas", None, (0.5, 0.75))
_AMSGRAD = _values("amsgrad", None, True)
_DECOUPLED: tuple[_Arguments, ...] = (
    {},
    {"weight_decay": 0.25, "decoupled_weight_decay": True},
    {"weight_decay": 0.25},
)
_MOMENTUM: tuple[_Arguments, ...] = (
    {},
    {"momentum": 0.5},
    {"momentum": 0.5, "nesterov": True},
    {"momentum": 0.5, "dampening": 0.25},
)


def _adam(name: str) -> OptimizerEntry:
    known = inspect.signature(getattr(torch.optim, name)).parameters
    decay = _DECOUPLED if "decoupled_weight_decay" in known else _DECAY  # Adam's, since 2.7
    return OptimizerEntry(name, (_LR, _AMSGRAD, decay, _BETAS, _MAXIMIZE))


def _lbfgs() -> OptimizerEntry:
    search = _values("line_search_fn", None, "strong_wolfe")
    if "maximize" in inspect.signature(torch.optim.LBFGS).parameters:  # since 2.14
        search += _values("maximize", True)  # by itself: a search upwards finds no step
    return OptimizerEntry(
        "LBFGS",
        (
            _values("lr", 0.125, 1),
            _values("max_iter", 2, 4),
            _values("history_size", None, 1),
            search,
        ),
        lambda tensor: tensor.numel() > 0,
        grouped=False,
    )


_ENTRIES = (
    _adam("AdamW"),
    OptimizerEntry("SGD", (_LR, _MOMENTUM, _DECAY, _MAXIMIZE)),
    _adam("Adam"),
    OptimizerEntry("NAdam", (_LR, _DECOUPLED, _BETAS, _MAXIMIZE)),
    OptimizerEntry("RAdam", (_LR, _DECOUPLED, _BETAS, _MAXIMIZE)),
    OptimizerEntry("Adamax", (_LR, _DECAY, _BETAS, _MAXIMIZE)),
    OptimizerEntry("Adadelta", (_LR, _values("rho", None, 0.5), _DECAY, _MAXIMIZE)),
    OptimizerEntry(
        "Adagrad",
        (
            _LR,
            _values("initial_accumulator_value", None, 0.5),
            _values("lr_decay", None, 0.5),
            _DECAY,
            _MAXIMIZE,
        ),
    ),
    OptimizerEntry("ASGD", (_LR, _values("t0", None, 1), _DECAY, _MAXIMIZE)),
    OptimizerEntry(
        "RMSprop",
        (_LR, _values("momentum", None, 0.5), _values("centered", None, True), _DECAY, _MAXIMIZE),
    ),
    OptimizerEntry("Rprop", (_LR, _values("etas", None, (0.25, 2.0)), _MAXIMIZE)),
    _lbfgs(),
    OptimizerEntry("SparseAdam", (_LR, _BETAS, _MAXIMIZE), _real),
    OptimizerEntry(
        "Adafactor",
        (_LR, _DECAY, _MAXIMIZE),
        lambda tensor: _real(tensor) and tensor.numel() > 0,
    ),
    OptimizerEntry(
        "Muon",
        (_LR, _values("nesterov", None, False), _values("momentum", None, 0.5), _DECAY),
        lambda tensor: _real(tensor) and tensor.ndim == 2 and tensor.shape[1] > 0,
    ),
)

OPTIMIZERS: dict[str, OptimizerEntry] = {
    e.name: e for e in _ENTRIES if hasattr(torch.optim, e.name)
}
"""The classes that the installed torch has, by name, simplest first."""

SCHEDULERS: Mapping[str, _Arguments] = {
    "StepLR": {"step_size": 1, "gamma": 0.5},
    "CosineAnnealingLR": {"T_max": 4},
    "OneCycleLR": {"max_lr": 0.5, "total_steps": 8, "cycle_momentum": False},
}
"""Schedulers of learning rates, by class, with their arguments."""


def with_implementation(spec: OptimizerSpec, name: str, *, on: bool = True) -> OptimizerSpec | None:
    """``spec`` with the implementation ``"foreach"``, ``"fused"`` or ``"capturable"`` on, or off;
    ``None`` where its class has none, or has another on that it goes not with.
    """
    rivals = {"foreach": "fused", "fused": "foreach"}
    taken = on and spec.kwargs.get(rivals.get(name, ""))
    if taken or not OPTIMIZERS[spec.factory].accepts(name):
        return None
    return replace(spec, kwargs={**spec.kwargs, name: on})


def build_optimizer(
    spec: OptimizerSpec, module: nn.Module, *, reverse: bool = False
) -> torch.optim.Optimizer:
    """A fresh optimizer for the parameters of ``module`` that its class can step; with ``reverse``
    each group has them the other way round.

    Raises ``ValueError`` where the catalogue has no such class.
    """
    entry = OPTIMIZERS.get(spec.factory)
    if entry is None:
        raise ValueError(f"there is no optimizer {spec.factory!r}; there are: {[*OPTIMIZERS]}")
    given = [
        (name, parameter)
        for name, parameter in module.named_parameters()
        if steppable(parameter, meta=True, frozen=spec.frozen)
        and entry.takes(parameter)
        and (_real(parameter) or not spec.kwargs.get("fused"))
    ]
    order = -1 if reverse else 1
    dealt = [(kw, hand[::order]) for kw, hand in _dealt(spec.groups or (GroupSpec(),), given)]
    # A group without parameters has no names, and torch wants all groups with names or none.
    named = spec.named and all(members for _, members in dealt)
    groups = [
        {"params": members if named else [p for _, p in members], **_settings(spec, kwargs)}
        for kwargs, members in dealt
    ]
    made: torch.optim.Optimizer = getattr(torch.optim, spec.factory)(
        groups, **_settings(spec, spec.kwargs)
    )
    return made


def _dealt(
    groups: tuple[GroupSpec, ...], given: list[tuple[str, nn.Parameter]]
) -> Iterator[tuple[_Arguments, list[tuple[str, nn.Parameter]]]]:
    """The settings and the parameters of each group: those that take any are dealt them in turn."""
    hands = sum(not group.empty for group in groups)
    taken = 0
    for group in groups:
        yield group.kwargs, [] if group.empty else given[taken::hands]
        taken += not group.empty


def _settings(spec: OptimizerSpec, kwargs: _Arguments) -> dict[str, Any]:
    if spec.tensor_lr and "lr" in kwargs:
        return {**kwargs, "lr": torch.tensor(float(kwargs["lr"]))}
    return dict(kwargs)


def build_scheduler(name: str, optimizer: torch.optim.Optimizer) -> Any:
    """A fresh scheduler of the learning rates of ``optimizer``."""
    return getattr(torch.optim.lr_scheduler, name)(optimizer, **SCHEDULERS[name])
