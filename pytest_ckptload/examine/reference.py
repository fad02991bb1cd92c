"""What a load is held against: the checkpoint, and the module that eager loading gives of it.

Apart from the pipeline because it may take several loads to know what is to be expected of one: a
file that eager loading refuses is loaded once more as it should have been.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import Case
from pytest_ckptload.contents import state_of, write
from pytest_ckptload.examine.expected import is_wrapped, with_fitting_shapes
from pytest_ckptload.examine.given import broken_record
from pytest_ckptload.examine.loads import Loaded, attempt
from pytest_ckptload.examine.progress import stage
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.loader import Loader, Save
from pytest_ckptload.machine.device_memory import Taken
from pytest_ckptload.machine.torch_state import Kept
from pytest_ckptload.observe import observe
from pytest_ckptload.observe.tensors import is_poison
from pytest_ckptload.printable import described
from pytest_ckptload.recipes import eager
from pytest_ckptload.rules.comparison import Reference, as_built, same_in_dtype
from pytest_ckptload.zoo import seeded

__all__ = [
    "Demands",
    "Expectation",
    "Sample",
    "expectation",
    "read",
    "reference_of",
    "translated",
]


@dataclass(frozen=True)
class Demands:
    """What a check asks of a loader beyond the mission. See ``check`` for each."""

    promises: frozenset[str] = frozenset()
    semantics: str | None = None
    dtype: torch.dtype | None = None
    reference: Loader | None = None
    save: Save | None = None


@dataclass
class Sample:
    """A checkpoint on disk and what is known of it."""

    path: Path
    values: Mapping[str, Any]
    case: Case = field(default_factory=Case)
    given: bool = False

    def bytes(self, *, verified: bool = False) -> object:
        """What must not change: a written file's every byte, of a given one its size and times, and
        its checksums, where they are not ``verified`` already.
        """
        if not self.path.exists():
            return None
        if self.given:
            status = self.path.stat()
            with stage("reading"):
                broken = None if verified else broken_record(self.path)
            return status.st_size, status.st_mtime_ns, broken
        if self.path.is_file():
            return self.path.read_bytes()
        return {p: p.read_bytes() for p in sorted(self.path.rglob("*")) if p.is_file()}


@dataclass
class Expectation:
    """What is to become of a load: ``Attempt.expect`` has the words for it, or it is ``"wrapped"``
    where a loader may take the state dict out of the file's payload or refuse it.

    ``module`` is the eager module where there is one, ``left`` the state of torch after the load
    that gave it, and ``taken`` the memory of its device; ``refused`` is the error with which eager
    loading refused the file.
    """

    expect: str
    module: nn.Module | None = None
    left: Kept | None = None
    taken: Taken | None = None
    refused: str | None = None


def read(path: Path) -> Any:
    """What the file holds, on the CPU, read as the eager recipe reads it."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=False)


def expectation(
    sample: Sample, subject: Subject, demands: Demands, device: torch.device
) -> Expectation:
    """What is to be expected of a load of this sample."""
    checkpoint = sample.case.checkpoint
    wrapped = is_wrapped(checkpoint)
    loaded = _eagerly(sample.path, subject, demands, device)
    damaged = checkpoint.damage is not None
    if loaded.error is None and not (damaged and _short(sample.path, device)):
        taken = "wrapped" if wrapped else "load"
        return Expectation(taken, loaded.returned, loaded.left, loaded.taken)
    if damaged:
        return Expectation("damage")
    path = sample.path
    with ExitStack() as stack:
        if wrapped:
            path = stack.enter_context(_beside(sample, "unwrapped.pt", sample.values))
            loaded = _eagerly(path, subject, demands, device)
            if loaded.error is None:
                return Expectation("wrapped", loaded.returned, loaded.left)
        if checkpoint.missing or checkpoint.extra:
            loaded = _eagerly(path, subject, demands, device, strict=False)
            if loaded.error is None:
                return Expectation("mismatch", loaded.returned)
        fitting = with_fitting_shapes(checkpoint, subject.structure)
        if fitting is not None:
            state = state_of(subject.fresh, subject.structure, fitting)
            path = stack.enter_context(_beside(sample, "fitting.pt", state))
            loaded = _eagerly(path, subject, demands, device)
            if loaded.error is None:
                return Expectation("shapes")
    assert loaded.error is not None
    return Expectation("refusal", refused=described(loaded.error))


def _short(path: Path, device: torch.device) -> bool:
    """Whether a file that was accepted is refused on the CPU. Elsewhere a record that is too short
    passes: its memory grows to what the tensor takes, and holds anything there.
    """
    if device.type == "cpu":
        return False
    return attempt(lambda: read(path), part="reference").error is not None


@contextmanager
def _beside(sample: Sample, name: str, state: Mapping[str, Any]) -> Iterator[Path]:
    """Another file, for the reference alone: it is gone before the loader runs."""
    path = sample.path.with_name(name)
    write(state, path)
    try:
        yield path
    finally:
        path.unlink()


def _eagerly(
    path: Path, subject: Subject, demands: Demands, device: torch.device, *, strict: bool = True
) -> Loaded:
    def load() -> nn.Module:
        arguments = (subject.construct, path, device)
        if demands.reference is not None:
            return demands.reference(*arguments)
        return eager(*arguments, strict=strict, dtype=demands.dtype)

    return attempt(load, device, fill=subject.fillable, part="reference")


def translated(
    reference_module: nn.Module,
    sample: Sample,
    subject: Subject,
    demands: Demands,
    device: torch.device,
) -> frozenset[str]:
    """The names that a caller's reference gives other values than a given file has for them: it
    has taken those from entries of other names, or computed them.

    Not what construction gave, nor what another seed gives otherwise: of such names the reference
    knows nothing. Nor where names share memory and contradict each other in the file: there several
    values are right.
    """
    given, initial = observe(reference_module), subject.initial.places
    torn = {name for pair in given.overlaps for name in pair}
    candidates = {
        slot.name: given.places[slot.name]
        for slot in subject.structure.saved
        if slot.name in given.places and given.groups[slot.name][0] not in torn
    }
    candidates = {
        name: place
        for name, place in candidates.items()
        if not is_poison(place.tensor)
        and not as_built(place, initial[name])
        and not any(_holds(sample.values.get(n), place.tensor) for n in given.groups[name])
    }
    if not candidates:
        return frozenset()
    with seeded(subject.seed + 1):
        other = replace(subject, seed=subject.seed + 1)
        again = _eagerly(sample.path, other, demands, device).returned
    places = observe(again).places if isinstance(again, nn.Module) else {}
    return frozenset(
        name
        for name, place in candidates.items()
        if name in places and _holds(places[name].tensor, place.tensor)
    )


def _holds(value: Any, tensor: torch.Tensor) -> bool:
    """Whether an entry, converted to the tensor's dtype, is that tensor."""
    if not isinstance(value, torch.Tensor) or value.shape != tensor.shape:
        return False
    return same_in_dtype(value, tensor)


def reference_of(
    eager_module: nn.Module,
    values: Mapping[str, Any],
    subject: Subject,
    demands: Demands,
    *,
    lenient: bool = False,
    translated: frozenset[str] = frozenset(),
) -> Reference:
    """What a loaded module is held against: the eager module, and the file's values.

    ``lenient`` says that the eager module may lack values. Where it was loaded strictly it has one
    for each name that the file does not hold: the module's own code gave it. For those that are
    ``translated`` its values count, and not the file's.
    """
    values = {name: value for name, value in values.items() if name not in translated}
    named = {slot.name for slot in subject.structure.saved} - translated
    return Reference(
        observe(eager_module),
        {name: value for name, value in values.items() if isinstance(value, torch.Tensor)},
        frozenset(name for name in named if lenient and name not in values),
        lambda: subject.initial,
        demands.semantics,
        demands.dtype,
        translated,
    )
