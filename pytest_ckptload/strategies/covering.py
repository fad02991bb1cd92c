"""The covering set: the fixed cases that every check begins with.

Apart from the random cases because nothing is drawn: each is minimal by construction, which no
explicit example of Hypothesis would be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from pytest_ckptload.case import Case, CheckpointSpec, ModuleSpec, TensorSpec
from pytest_ckptload.contents import value_kinds
from pytest_ckptload.machine.dtypes import COMPLEX, LOW_PRECISION, ORDINARY, RARE, known, named
from pytest_ckptload.strategies.assembly import Wish, assemble, in_rounds, selected, variants
from pytest_ckptload.strategies.pairs import paired
from pytest_ckptload.zoo.catalogue import CATALOGUE
from pytest_ckptload.zoo.feature import Choose, Feature, first
from pytest_ckptload.zoo.structure import Structure

__all__ = ["covering"]


def covering(
    *,
    features: Sequence[str] | None = None,
    without: Sequence[str] = (),
    structure: Structure | None = None,
) -> Iterator[Case]:
    """The cases every check begins with: a plain one, each choice of each feature alone, each
    class, each value that loaders lose; last, pairs of the features that have few choices.

    They are minimal by construction: all choices but one are the simplest. Classes and values come
    where all features, or none, are wanted. Those that tell of different things take turns: so most
    of what is wrong with a loader shows early.
    """
    everything = selected(features, without, of_module=structure is None)
    whole = features is None or not features
    if whole:
        yield assemble([], structure)
    covered: Counter[str] = Counter()
    kinds = [_choices(feature, structure, covered) for feature in everything]
    if structure is None:
        kinds += [_special_values(feature.name) for feature in everything]
        kinds += [_special_values(""), _classes()] if whole else []
    elif whole:
        kinds.append(_special_values_of(structure))
    yield from in_rounds(kinds)
    yield from paired(everything, covered, lambda on: assemble([*map(Wish, on)], structure))


def _choices(
    feature: Feature, structure: Structure | None, covered: Counter[str]
) -> Iterator[Case]:
    """Each choice of the feature alone; which features are in each is counted."""
    seen = []
    for case in variants(partial(_alone, feature, structure)):
        if feature.name in case.features and case not in seen:
            seen.append(case)
            covered.update(case.features)
            yield case


def _alone(feature: Feature, structure: Structure | None, choose: Choose) -> Case:
    return assemble([Wish(feature, choose)], structure)


def _special_values_of(structure: Structure) -> Iterator[Case]:
    """Each value that loaders lose, in the first tensor of a given module that can hold any."""
    for slot in [s for s in structure.saved if s.numel and value_kinds(s.dtype)][:1]:
        for kind in value_kinds(slot.dtype):
            yield Case(None, CheckpointSpec({slot.name: TensorSpec(values=((0, kind),))}))


# The dtypes by the feature that has to be on for them; the first need none.
_DTYPES = {"": ORDINARY, "low-precision": LOW_PRECISION, "complex": COMPLEX, "rare-dtype": RARE}

# In these a loader is likely to lose one kind of value and keep the others.
_SEPARATE = ("float32", "int64", "bfloat16")


def _special_values(feature: str) -> Iterator[Case]:
    """Each value that loaders lose, in each dtype that comes with this feature, all in one tensor;
    in some dtypes each alone as well.
    """
    for dtype in known(_DTYPES.get(feature, ())):
        exact = named(dtype)
        floating = exact.is_floating_point or exact.is_complex
        factory, name = ("Weights", "weight") if floating else ("Codes", "codes")
        kinds = value_kinds(exact)
        chosen = [tuple(enumerate(kinds))] if kinds else []
        if dtype in _SEPARATE:
            chosen += [((1, kind),) for kind in kinds]
        for values in chosen:
            module = ModuleSpec(factory, {"size": max(2, len(values)), "dtype": dtype})
            checkpoint = CheckpointSpec({name: TensorSpec(values=values)})
            yield Case(module, checkpoint, (feature,) if feature else ())


def _classes() -> Iterator[Case]:
    """Each class, and modules of another size or shape than these have."""
    # More than a page, more than a megabyte, and not a whole number of either.
    yield Case(ModuleSpec("Linear", {"in_features": 64, "out_features": 65}))
    yield Case(ModuleSpec("Linear", {"in_features": 257, "out_features": 1025}))
    yield from _containers()
    for entry in CATALOGUE.values():
        yield Case(entry.spec(first))


def _containers() -> Iterator[Case]:
    """Each container with as many children as it takes for "10" to stand before "2"."""
    leaf = ModuleSpec("PReLU", {"num_parameters": 1})
    for container in ("Sequential", "ModuleList", "ModuleDict"):
        yield Case(ModuleSpec(container, children={str(i): leaf for i in range(11)}))
