"""Which ingredient of a recipe is to blame: the same case with mmap, meta and assign each alone.

Apart from the recipes because nobody loads so: two thirds of each are the eager way.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_ckptload import recipes
from pytest_ckptload.finding import Finding, Verdict
from pytest_ckptload.loader import Build, Loader, MakeOptimizer, Resumer
from pytest_ckptload.recipes.eager import built, state_dict_in
from pytest_ckptload.recipes.swap import swapping
from pytest_ckptload.rules.causes import folded

__all__ = ["blame", "ingredients_of"]

_LOADERS: tuple[tuple[Loader, tuple[str, ...]], ...] = (
    (recipes.mmap, ("mmap",)),
    (recipes.meta_assign, ("meta", "assign")),
    (recipes.mmap_meta_assign, ("mmap", "meta", "assign")),
    (recipes.mmap_stream, ("mmap", "meta", "assign")),
    (recipes.mmap_meta_swap, ("mmap", "meta", "swap")),
)

_RESUMERS: tuple[tuple[Resumer, tuple[str, ...]], ...] = (
    (recipes.mmap_meta_assign_resume, ("mmap", "meta", "assign")),
    (recipes.mmap_meta_swap_resume, ("mmap", "meta", "swap")),
)


def ingredients_of(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The ingredients of a recipe by name, each as a loader, or a resumer, that has no other.

    None for what is no recipe. What a recipe does besides, a cast for one, none of them does.
    """
    recipe = function.func if isinstance(function, partial) else function
    for alone, known in ((_load, _LOADERS), (_resume, _RESUMERS)):
        for other, names in known:
            if recipe is other:
                return {name: partial(alone, name) for name in names}
    return {}


def blame(finding: Finding, verdicts: Mapping[str, Verdict]) -> str:
    """A sentence that says which ingredients give a finding when they are alone.

    ``verdicts`` are those on the case of ``finding``, by the name of the ingredient.
    """
    given: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        given.setdefault(_instead(finding, verdict.findings), []).append(f"{name} alone")
    without = given.pop("", [])
    told = []
    for code in sorted(given, key=lambda code: code != finding.code):
        gives = "gives" if len(given[code]) == 1 else "give"
        what = "the same finding" if code == finding.code else f"{code} in its place"
        told.append(f"{_listed(given[code])} {gives} {what}")
    if not told:
        return f"The ingredient: no single one; {_listed(without)} {_does(without)} not give it."
    if without:
        told.append(f"{_listed(without)} {_does(without)} not")
    return f"The ingredient: {'; '.join(told)}."


def _instead(finding: Finding, others: Sequence[Finding]) -> str:
    """The code of what is found in the place of ``finding``: its own, another, or none."""
    judged = folded(
        other
        for other in others
        # Alone, meta leaves everything there: that says something of what is left there in company.
        if other.code == finding.code or not (other.advice or other.code == "CKPT303")
    )
    codes = [
        other.code
        for other in judged
        if other.because_of is None and not set(finding.names).isdisjoint(other.names)
    ]
    return finding.code if finding.code in codes else next(iter(codes), "")


def _does(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _listed(names: Sequence[str]) -> str:
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last


def _load(ingredient: str, build: Build, path: Path, device: torch.device) -> nn.Module:
    payload = _read(ingredient, path, device)
    module = _built(ingredient, build, device)
    _fill(ingredient, module, state_dict_in(payload))
    return module


def _resume(
    ingredient: str, build: Build, make_optimizer: MakeOptimizer, path: Path, device: torch.device
) -> tuple[nn.Module, torch.optim.Optimizer]:
    payload = _read(ingredient, path, device)
    module = _built(ingredient, build, device)
    if ingredient == "swap":  # which is there for this order
        optimizer = make_optimizer(module)
        _fill(ingredient, module, payload["model"])
    else:
        _fill(ingredient, module, payload["model"])
        optimizer = make_optimizer(module)
    optimizer.load_state_dict(payload["optimizer"])
    return module, optimizer


def _read(ingredient: str, path: Path, device: torch.device) -> Any:
    mapped = ingredient == "mmap"
    return torch.load(path, map_location=device, weights_only=True, mmap=mapped)


def _built(ingredient: str, build: Build, device: torch.device) -> nn.Module:
    """A module on its device; with meta alone it stays there, since nothing is assigned to it."""
    if ingredient != "meta":
        return built(build, device)
    with torch.device("meta"):
        return build()


def _fill(ingredient: str, module: nn.Module, state: Mapping[str, Any]) -> None:
    with warnings.catch_warnings(), swapping() if ingredient == "swap" else nullcontext():
        warnings.simplefilter("ignore")  # that copying to meta does nothing
        module.load_state_dict(state, strict=True, assign=ingredient in ("assign", "swap"))
