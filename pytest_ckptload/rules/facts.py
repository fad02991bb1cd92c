"""The facts that rules judge, but for two modules side by side: how a load ended, what it left
behind, what became of the file, of an optimizer, of another load.

Apart from the rules because those who find the facts are no rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from pytest_ckptload.finding import Finding
from pytest_ckptload.observe import Observation

__all__ = [
    "Aftermath",
    "Ambient",
    "Attempt",
    "Behaviour",
    "DeviceMemory",
    "FileFacts",
    "Lifetime",
    "SecondLoad",
    "Training",
]


@dataclass
class Attempt:
    """How a load ended, where that alone is to be judged.

    ``expect`` is ``"load"`` where the eager recipe loads, ``"mismatch"`` where names are missing
    from the file or too many, ``"shapes"`` where shapes are others than the module's, ``"damage"``
    where the file was damaged, ``"refusal"`` where the eager recipe refuses for a reason of its
    own. ``refusable`` says why refusing is right all the same. ``executed`` says which code ran
    that the file brought along, ``climbed`` are the files that were written to where names in it
    point, out of the folder that they belong to. ``mismatched`` are the names that are missing or
    too many.
    """

    expect: str
    promises: frozenset[str]
    error: BaseException | None = None
    returned: str | None = None
    details: str = ""
    refusable: str | None = None
    executed: str | None = None
    climbed: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()


@dataclass
class Aftermath:
    """What a load leaves behind, besides the module.

    ``settings`` are those of torch's globals that it changed, by name, as they were and as they
    are. ``random`` says that torch's generators go on with other numbers than after the eager load.
    ``added``, ``removed`` and ``altered`` are the files beside the checkpoint that are new, gone or
    written to, ``opened`` says that the checkpoint is still open, and under which name.
    """

    settings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    random: bool = False
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    promises: frozenset[str] = frozenset()


@dataclass
class FileFacts:
    """What became of the file: its bytes (or what stands for them) at three times."""

    written: object
    loaded: object
    trained: object


@dataclass
class Lifetime:
    """What became of a loaded module in the event that its file was ``"deleted and replaced"``,
    ``"saved over"`` or ``"truncated"``: the names whose values changed, or what reading them ended
    in.
    """

    event: str
    changed: tuple[str, ...] = ()
    error: str | None = None


@dataclass
class SecondLoad:
    """What the same loader gave when it was called again.

    ``shared`` are the pairs of names, of the first module and of the second, that have memory in
    common; ``wrong`` what was found on the second and not on the first; ``stale`` the names that
    have the values of a file which was replaced in between, or ``error`` what that load raised.
    """

    shared: tuple[tuple[str, str], ...] = ()
    wrong: tuple[Finding, ...] = ()
    stale: tuple[str, ...] = ()
    error: str | None = None


@dataclass
class Ambient:
    """What a load under other default devices gave otherwise than under none: by the default, in
    words.
    """

    unlike: Mapping[str, str] = field(default_factory=dict)


@dataclass
class DeviceMemory:
    """Bytes that a load had allocated on its device: the most at one time, and those that are there
    when it has returned; the same of the eager load, and how much more is let pass.
    """

    device: str
    peak: int
    held: int
    eager_peak: int
    eager_held: int
    slack: int


@dataclass
class Behaviour:
    """How the outputs and gradients of two modules differ that were called with the same: for each
    submodule by path, and each parameter by name, in words. ``unsettled`` are the submodules of
    which it cannot be told, and why.
    """

    outputs: Mapping[str, str] = field(default_factory=dict)
    gradients: Mapping[str, str] = field(default_factory=dict)
    unsettled: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Training:
    """An optimizer beside the module it belongs to, and the same for the reference.

    ``slots`` are the parameters the optimizer refers to, by group, ``eager_slots`` the names of
    those that the eager one refers to, ``None`` for one from outside the module. ``where`` is how
    the groups are reached; ``inner`` are the slots of optimizers that it holds inside and that
    refer to other tensors, by how those are reached. ``settings`` and ``eager_settings`` are what
    the groups say besides, where they are to be judged.

    ``state`` is the optimizer's state by parameter name; ``eager_state`` is what it is held
    against: value by value the eager optimizer's, or the file's where the resumer kept that.
    ``saved_state`` is the file's, by the names that it was saved for. ``orphans`` are the tensors
    that state is kept for and no group has; ``shared`` says of a name's state, by its key, what has
    memory in common with it.

    ``steps`` are the names whose bytes differ from those of the reference ``after`` so many steps,
    with both tensors, ``others`` what else differs then: the parameter whose state it is or ``""``,
    what it is, and how it differs. ``changed`` are the places in a state dict that are others after
    it was loaded into the optimizer. ``exempt`` names differ already for another reason.
    """

    actual: Observation
    eager: Observation
    slots: list[list[torch.Tensor]]
    eager_slots: list[list[str | None]]
    state: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    eager_state: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    saved_state: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    settings: Sequence[Mapping[str, object]] = ()
    eager_settings: Sequence[Mapping[str, object]] = ()
    where: str = "param_groups"
    inner: Mapping[str, list[list[torch.Tensor]]] = field(default_factory=dict)
    orphans: Sequence[torch.Tensor] = ()
    shared: Mapping[tuple[str, str], str] = field(default_factory=dict)
    changed: Sequence[str] = ()
    steps: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    others: Sequence[tuple[str, str, str]] = ()
    after: int = 1
    error: str | None = None
    exempt: frozenset[str] = frozenset()
