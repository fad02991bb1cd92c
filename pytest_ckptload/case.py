"""Cases: one module and one checkpoint, as pure data.

Apart from the code that makes them real (``zoo`` builds modules, ``contents`` fills and writes
checkpoints) so that a case can be compared, printed, sent to another process and kept in a file.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_ckptload.data import Data, each, mapping

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "Case",
    "CheckpointSpec",
    "Damage",
    "Edit",
    "GroupSpec",
    "ModuleSpec",
    "OptimizerSpec",
    "TensorSpec",
    "View",
]


@dataclass(frozen=True, repr=False)
class Edit(Data):
    """A change made to a module after it was built: a function of the zoo and its arguments."""

    function: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class ModuleSpec(Data):
    """How to build a module: a class of ``torch.nn`` or of the zoo, its arguments, its children.

    ``children`` are those of a container; for other classes they are arguments, by name. ``edits``
    are made in order after everything is built.
    """

    factory: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    children: Mapping[str, ModuleSpec] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()

    parts: ClassVar = {
        "children": lambda items: mapping(ModuleSpec)(items),
        "edits": each(Edit),
    }

    def factories(self) -> Iterator[str]:
        """The names of all that the module is made with: classes, then functions that edit it."""
        yield self.factory
        for child in self.children.values():
            yield from child.factories()
        for edit in self.edits:
            yield edit.function

    def build(self, seed: int | None = 0) -> nn.Module:
        """A fresh module: on the ambient device, its random values drawn from ``seed`` alone, or
        where that is ``None`` from torch's generators as they stand.
        """
        from pytest_ckptload.zoo import build

        return build(self, seed)


@dataclass(frozen=True, repr=False)
class TensorSpec(Data):
    """How one tensor of a checkpoint departs from the plain one: of the module's dtype and shape,
    dense, filled with the plain pattern.

    ``values`` are (index in row-major order, kind) pairs: see ``contents.VALUES`` for the kinds.
    ``form`` says how the elements lie in memory: see ``contents.FORMS``. ``requires_grad`` is given
    for what is saved as a Parameter.
    """

    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    values: tuple[tuple[int, str], ...] = ()
    form: str = "dense"
    requires_grad: bool | None = None


@dataclass(frozen=True, repr=False)
class View(Data):
    """Two tensors of a checkpoint that are views of one storage, the second ``shift`` elements
    behind the first: overlapping when ``shift`` is less than the size of the first.
    """

    names: tuple[str, str]
    shift: int = 0


@dataclass(frozen=True, repr=False)
class Damage(Data):
    """What was done to the file after it was written, at ``where``, a fraction of its size."""

    kind: str
    where: float = 0.5


@dataclass(frozen=True, repr=False)
class CheckpointSpec(Data):
    """How a checkpoint departs from the plain one, which holds every persistent tensor of the
    module, filled with a pattern that is different for each, in a zip file of ``torch.save``.

    ``ties`` says how names that are one tensor in the module stand in the file: as one storage
    (``"shared"``), as equal copies (``"separate"``), or with contents of their own (``"differ"``).
    ``order`` is that of the names: ``"module"``, ``"reversed"`` or ``"sorted"``. ``prefix`` stands
    before each of them, ``payload`` is the key that the state dict stands under beside other
    things. ``metadata`` says whether it has its ``_metadata``. ``format`` is how the file is
    written: see ``contents.FORMATS``. ``device`` is the one that the file says its tensors were on.

    For modules that upgrade what they load: ``renamed`` has the names that the file knows tensors
    by, ``versions`` the version that its ``_metadata`` gives a submodule, by path. ``objects`` are
    the entries that are no tensors (extra state), where they are not those of a fresh module.
    """

    tensors: Mapping[str, TensorSpec] = field(default_factory=dict)
    views: tuple[View, ...] = ()
    ties: str = "shared"
    missing: tuple[str, ...] = ()
    extra: Mapping[str, TensorSpec] = field(default_factory=dict)
    damage: Damage | None = None
    order: str = "module"
    prefix: str = ""
    payload: str = ""
    metadata: bool = True
    format: str = "zip"
    device: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    objects: Mapping[str, Any] = field(default_factory=dict)

    parts: ClassVar = {
        "tensors": mapping(TensorSpec),
        "views": each(View),
        "extra": mapping(TensorSpec),
        "damage": Damage.from_dict,
    }

    def state_dict(self, module: nn.Module) -> OrderedDict[str, Any]:
        """What a checkpoint of ``module``, a fresh one, holds: tensors on the CPU by name."""
        from pytest_ckptload.contents import state_of
        from pytest_ckptload.zoo.structure import structure_of

        return state_of(module, structure_of(module), self)

    def save(self, module: nn.Module, path: str | Path) -> None:
        """Write a checkpoint of ``module``, a fresh one, to ``path``.

        Raises ``ValueError`` where the file is to be damaged, which is for checks to do.
        """
        from pytest_ckptload.contents import write

        if self.damage is not None:
            raise ValueError(
                f"damage {self.damage.kind!r} is done by checks alone: generate these without "
                "'damaged' and 'hostile'"
            )
        write(self.state_dict(module), Path(path), self)


@dataclass(frozen=True, repr=False)
class GroupSpec(Data):
    """One group of an optimizer's parameters: its own settings; ``empty`` has no parameter."""

    kwargs: Mapping[str, Any] = field(default_factory=dict)
    empty: bool = False


@dataclass(frozen=True, repr=False)
class OptimizerSpec(Data):
    """How to build an optimizer for any module, and what a run did with it before it was saved.

    ``factory`` is a class of ``torch.optim``. It is given the parameters that it can step, with
    ``frozen`` those that require no gradient, too; ``groups`` are dealt them in turn, and left out,
    one group has all. ``named`` gives them by name, ``tensor_lr`` each learning rate as a tensor.

    ``trained`` says which parameters had gradients in the steps before saving: ``"all"``, every
    other (``"some"``) or none, for no step was taken (``"none"``). ``scheduler`` is a class of
    ``torch.optim.lr_scheduler`` whose state stands in the file, too. ``state_dtype`` is the dtype
    that floating state was saved in. ``thawed`` says that what is frozen was trained then,
    ``reordered`` that each group had its parameters in the reverse order.
    """

    factory: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[GroupSpec, ...] = ()
    named: bool = False
    frozen: bool = False
    tensor_lr: bool = False
    trained: str = "all"
    scheduler: str | None = None
    state_dtype: str | None = None
    thawed: bool = False
    reordered: bool = False

    parts: ClassVar = {"groups": each(GroupSpec)}

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimizer for the parameters that ``module`` has now.

        Raises ``ValueError`` where ``torch.optim`` has no such class.
        """
        from pytest_ckptload.zoo.optimizers import build_optimizer

        return build_optimizer(self, module)


@dataclass(frozen=True, repr=False)
class Case(Data):
    """One module and one checkpoint; for a resumer, an optimizer as well.

    ``module`` is ``None`` where the module is the user's own (``check(…, build=…)``), ``optimizer``
    where the optimizer is, or none is wanted. ``seed`` is that of the module's construction;
    ``features`` are the names of what the case contains.
    """

    module: ModuleSpec | None = None
    checkpoint: CheckpointSpec = field(default_factory=CheckpointSpec)
    features: tuple[str, ...] = ()
    seed: int = 0
    optimizer: OptimizerSpec | None = None

    parts: ClassVar = {
        "module": ModuleSpec.from_dict,
        "checkpoint": CheckpointSpec.from_dict,
        "optimizer": OptimizerSpec.from_dict,
    }

    def to_json(self) -> str:
        """The case as one line of JSON."""
        return json.dumps(self.as_dict(), separators=(", ", ": "))

    @classmethod
    def from_json(cls, text: str) -> Case:
        """The case that ``to_json`` wrote.

        Raises ``ValueError`` where the text is not JSON, or not that of a case.
        """
        data = json.loads(text)
        try:
            return cls.from_dict(data)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a case: {error!r}") from error

    def classes(self) -> frozenset[str]:
        """The classes and other factories that the case's own module is made of."""
        return frozenset() if self.module is None else frozenset(self.module.factories())

    def build(self) -> nn.Module:
        """A fresh module, the same every time, on the ambient device."""
        if self.module is None:
            raise ValueError("this case has no module of its own: it was made for a given build=")
        return self.module.build(self.seed)

    def state_dict(self) -> OrderedDict[str, Any]:
        """What the checkpoint holds: tensors on the CPU by name."""
        return self.checkpoint.state_dict(self.build())

    def save(self, path: str | Path) -> None:
        """Write the checkpoint to ``path``.

        Raises ``ValueError`` where the file is to be damaged, which is for checks to do.
        """
        self.checkpoint.save(self.build(), path)
