"""The tensors and modules of one module, by name.

Apart from the other observers because it only walks: it follows the dictionaries that ``nn.Module``
keeps, calls nothing of the user's, and compares nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from pytest_ckptload.observe.aliasing import Overlap, address_of, overlaps
from pytest_ckptload.observe.hooks import hooks_of_module, hooks_of_tensor
from pytest_ckptload.observe.tensors import opaque

__all__ = ["Observation", "Place", "observe"]

_OWN = {"_parameters", "_buffers", "_modules"}


@dataclass(frozen=True)
class Place:
    """One tensor under one name.

    ``kind`` is ``"parameter"``, ``"buffer"``, ``"non-persistent buffer"`` or ``"attribute"``: a
    tensor that is neither, held by the module itself or in one of its lists, tuples or dicts. A
    parameter or buffer of a lazy module that has no shape as yet is an ``"uninitialised tensor"``,
    and an empty one stands for it.
    """

    name: str
    kind: str
    tensor: torch.Tensor

    @property
    def lazy(self) -> bool:
        """Whether there is no tensor as yet."""
        return self.kind == "uninitialised tensor"


@dataclass(frozen=True)
class Observation:
    """A module's tensors and submodules, in its own order.

    ``parts`` are the module and its submodules by path, ``modes`` says which of them are in
    training mode, ``customised`` which take part in loading with code of their own (hooks, or a
    ``_load_from_state_dict`` from outside torch). ``opaque`` says of which names no more can be
    seen than that they are there, and what stands under them.
    """

    module: nn.Module
    places: dict[str, Place]
    parts: dict[str, nn.Module]
    modes: dict[str, bool]
    customised: frozenset[str]
    opaque: dict[str, str]

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The names under which each name's very tensor object stands, that name included."""
        by_id: dict[int, list[str]] = {}
        for name, place in self.places.items():
            by_id.setdefault(id(place.tensor), []).append(name)
        return {name: tuple(names) for names in by_id.values() for name in names}

    @cached_property
    def overlaps(self) -> dict[frozenset[str], Overlap]:
        """The pairs of different tensors that have elements in common, each by its first name."""
        firsts = {names[0]: self.places[names[0]].tensor for names in self.groups.values()}
        return overlaps(firsts)

    def together(self, one: str, two: str) -> bool:
        """Whether two names are one tensor, or tensors that have elements in common."""
        if one not in self.groups or two not in self.groups:
            return False
        first, second = self.groups[one][0], self.groups[two][0]
        return first == second or frozenset((first, second)) in self.overlaps

    @property
    def unseen(self) -> dict[str, str]:
        """What cannot be seen of which names, in words."""
        unseen = {
            name: f"{what}: neither its contents nor its memory"
            for name, what in self.opaque.items()
        }
        for name, place in self.places.items():
            if not (place.lazy or place.tensor.is_meta) and address_of(place.tensor) is None:
                layout = place.tensor.layout
                what = "a wrapper" if layout == torch.strided else str(layout)
                unseen[name] = f"{what}: not its memory"
        return unseen

    @cached_property
    def hooks(self) -> dict[str, Counter[str]]:
        """The hooks of each module and tensor that has some, by path or name: their kind and name,
        and how many there are.
        """
        found = {path or "the module": hooks_of_module(part) for path, part in self.parts.items()}
        for name, place in self.places.items():
            if place.kind == "parameter" and self.groups[name][0] == name:
                found[name] = hooks_of_tensor(place.tensor)
        return {where: hooks for where, hooks in found.items() if hooks}

    @cached_property
    def extra_state(self) -> dict[str, object]:
        """What each module that has extra state gives for it, by path; or the exception it raises.

        Runs the module's own code, as making its state dict does.
        """
        given: dict[str, object] = {}
        for path, part in self.parts.items():
            if type(part).get_extra_state is not nn.Module.get_extra_state:
                try:
                    given[path] = part.get_extra_state()
                except Exception as error:
                    given[path] = error
        return given


def observe(module: nn.Module) -> Observation:
    """Observe ``module`` as it stands. Changes nothing, and reads no tensor's contents."""
    places: dict[str, Place] = {}
    attributes: dict[str, Place] = {}
    parts: dict[str, nn.Module] = {}
    modes: dict[str, bool] = {}
    customised = set()
    unseen: dict[str, str] = {}
    for path, part in _walk(module, "", ()):
        parts[path.rstrip(".")] = part
        modes[path.rstrip(".")] = part.training
        if _customised(part):
            customised.add(path)
        for name, kind, tensor in _tensors(part):
            if what := opaque(tensor):
                unseen[path + name] = what
                continue
            home = attributes if kind == "attribute" else places
            home[path + name] = _place(path + name, kind, tensor)
    # Attributes last: what is a parameter and an attribute as well goes by its name as the former.
    places.update(attributes)
    return Observation(module, places, parts, modes, frozenset(customised), unseen)


def _place(name: str, kind: str, tensor: torch.Tensor) -> Place:
    if nn.parameter.is_lazy(tensor):
        return Place(
            name, "uninitialised tensor", torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        )
    return Place(name, kind, tensor)


def _walk(
    module: nn.Module, path: str, above: tuple[nn.Module, ...]
) -> Iterator[tuple[str, nn.Module]]:
    """The module and those below it by path, one that holds itself once."""
    yield path, module
    above = (*above, module)
    for name, child in module._modules.items():
        if child is not None and not any(child is other for other in above):
            yield from _walk(child, f"{path}{name}.", above)


def _tensors(module: nn.Module) -> Iterator[tuple[str, str, torch.Tensor]]:
    recomputed = _recomputed(module)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield name, "parameter", parameter
    for name, buffer in module._buffers.items():
        if buffer is not None:
            fleeting = name in module._non_persistent_buffers_set
            yield name, "non-persistent buffer" if fleeting else "buffer", buffer
    for name, value in module.__dict__.items():
        if name in _OWN or name in recomputed:
            continue
        if isinstance(value, torch.Tensor):
            yield name, "attribute", value
        elif type(value) in (list, tuple, dict) and value:
            for key, item in _items(value):
                if isinstance(item, torch.Tensor):
                    yield f"{name}[{key!r}]", "attribute", item


def _recomputed(module: nn.Module) -> set[str]:
    """The attributes that hooks of torch's own compute anew before each forward pass.

    What stands in them until then is of no account, after an eager load as well.
    """
    names: set[str] = set()
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm | SpectralNorm):
            names.add(hook.name)
        elif isinstance(hook, BasePruningMethod):
            names.add(hook._tensor_name)
    return names


def _items(container: Any) -> Iterator[tuple[Any, Any]]:
    if type(container) is not dict:
        return iter(list(enumerate(container)))
    # What a key is called must not depend on an address, or on the contents of a tensor.
    return (
        (key if isinstance(key, str | int | bool | None) else f"key {position}", item)
        for position, (key, item) in enumerate(list(container.items()))
    )


def _customised(module: nn.Module) -> bool:
    if module._load_state_dict_pre_hooks or module._load_state_dict_post_hooks:
        return True
    for name in ("_load_from_state_dict", "load_state_dict"):
        owner = next(c for c in type(module).__mro__ if name in vars(c))
        if not owner.__module__.startswith("torch."):
            return True
    return False
