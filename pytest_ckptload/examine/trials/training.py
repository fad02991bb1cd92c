"""One optimizer step on a loaded module and on its reference, side by side.

Apart from the observers because it changes what it looks at: it runs last, and only on modules that
were made for the purpose.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from pytest_ckptload.contents import fill
from pytest_ckptload.finding import Finding
from pytest_ckptload.observe import Observation
from pytest_ckptload.observe.aliasing import overlaps_with_itself
from pytest_ckptload.observe.tensors import plain, same_bits, same_but_nan, same_tensor
from pytest_ckptload.printable import described
from pytest_ckptload.rules import Training, judge
from pytest_ckptload.zoo.optimizers import steppable

__all__ = ["names_of_slots", "parameters_of", "prepare", "train", "unlike_after"]


@functools.cache
def prepare() -> None:
    """Have torch import what the first optimizer of a process needs, which takes a second."""
    tensor = nn.Parameter(torch.zeros(1, device="cpu"))
    tensor.grad = torch.zeros(1, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.optim.SGD([tensor], lr=0.0).step()


def names_of_slots(
    observation: Observation, parameters: Iterable[torch.Tensor]
) -> list[str | None]:
    """The first name in the module of each of these parameters; ``None`` for one from elsewhere."""
    names = {
        id(place.tensor): observation.groups[name][0]
        for name, place in observation.places.items()
        if place.kind == "parameter"
    }
    return [names.get(id(p)) for p in parameters]


def parameters_of(observation: Observation) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters that can be stepped, each once, by first name."""
    for name, place in observation.places.items():
        first = observation.groups[name][0] == name
        if place.kind == "parameter" and first and steppable(place.tensor):
            yield name, place.tensor


def unlike_after(
    actual: Observation, eager: Observation, exempt: frozenset[str]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The tensors of two modules that were stepped and are not the same now. Which NaN comes of one
    depends on how the elements lie: any is as good as another.
    """
    unlike = {}
    for name, place in actual.places.items():
        other = eager.places.get(name)
        if other is None or name in exempt or place.tensor.is_meta:
            continue
        left, right = place.tensor, other.tensor
        alike = (left.dtype, left.shape) == (right.dtype, right.shape)
        if alike and not same_but_nan(left, right):
            unlike[name] = (left, right)
    return unlike


def train(actual: Observation, reference: Observation, accused: frozenset[str]) -> list[Finding]:
    """Make an optimizer from each module, step both with the same gradients, and judge.

    ``accused`` names differ already: they are left out, for what becomes of them is a consequence.
    """
    slots: list[torch.Tensor] = list(actual.module.parameters())
    if not slots:
        return []
    parameters = reference.module.parameters()
    wanted = [None if n in accused else n for n in names_of_slots(reference, parameters)]
    training = Training(actual, reference, [slots], [wanted], exempt=accused)
    _touch(actual, accused)
    pairs = dict(_pairs(actual, reference, accused))
    if pairs:
        training.error = _step(pairs)
        if training.error is None:
            training.steps = {
                name: (tensor, twin)
                for name, (tensor, twin) in pairs.items()
                if not same_but_nan(tensor, twin)
            }
    return judge(training)


def _touch(actual: Observation, accused: frozenset[str]) -> None:
    """Write to what no optimizer steps: training does, to statistics and counters.

    Buffers that no file holds are left alone: they may be the user's, shared by all modules. So is
    what has elements in common with others, of which some may be stepped.
    """
    overlapping = {name for pair in actual.overlaps for name in pair}
    for name, place in actual.places.items():
        if place.kind not in ("parameter", "buffer") or name in accused:
            continue
        if actual.groups[name][0] != name or name in overlapping:
            continue  # once for each tensor: twice would undo it
        tensor = place.tensor
        plain_memory = tensor.layout == torch.strided and not tensor.is_meta and tensor.numel()
        if plain_memory and not steppable(tensor) and not tensor.is_inference():
            first = plain(tensor).as_strided((1,), (1,), tensor.storage_offset()).view(torch.uint8)
            first.bitwise_xor_(1)


def _pairs(
    actual: Observation, reference: Observation, accused: frozenset[str]
) -> Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
    """The parameters to step, each with its twin: the eager module's own where the two are equal, a
    copy of the loaded one where they may differ (another dtype, a tie that the file does not have).
    """
    used: set[int] = set()
    unlike = _views_unlike(actual, reference)
    for name, tensor in parameters_of(actual):
        if accused.intersection(actual.groups[name]) or name in unlike:
            continue
        twin = reference.places[name].tensor if name in reference.places else None
        if twin is not None and overlaps_with_itself(twin):
            continue  # a reference of the user's own may have such; nobody can step it
        if twin is None or id(twin) in used or not _alike(tensor, twin):
            twin = nn.Parameter(plain(tensor).clone())
        used.add(id(twin))
        yield name, (tensor, twin)


def _views_unlike(actual: Observation, reference: Observation) -> frozenset[str]:
    """The names that have elements in common with others and either have so in one of the modules
    alone, and may (a cast takes views apart, and so does a file with other values for each), or
    start from elsewhere: what is written to one copy does not reach the others.
    """
    pairs = actual.overlaps.keys() ^ reference.overlaps.keys()
    pairs |= {pair for pair in actual.overlaps if not _start_alike(pair, actual, reference)}
    return frozenset().union(*pairs)


def _start_alike(names: Iterable[str], actual: Observation, reference: Observation) -> bool:
    starts = reference.places
    return all(
        name in starts and same_tensor(actual.places[name].tensor, starts[name].tensor)
        for name in names
    )


def _alike(tensor: torch.Tensor, twin: torch.Tensor) -> bool:
    return (
        steppable(twin)
        and tensor.dtype == twin.dtype
        and tensor.shape == twin.shape
        and tensor.device == twin.device
        and same_bits(tensor, twin)
    )


def _step(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> str | None:
    """Step the tensors and their twins with the same gradients; what stepping the former raised.

    As ``torch.optim.SGD`` does it: making one has torch import Dynamo, which takes two seconds.
    """
    with torch.no_grad():
        for index, (tensor, twin) in enumerate(pairs.values()):
            gradient = fill(tuple(tensor.shape), tensor.dtype, 500 + index).to(tensor.device)
            twin.add_(gradient, alpha=-0.5)
            try:
                tensor.add_(gradient, alpha=-0.5)
            except Exception as error:
                return described(error)
    return None
