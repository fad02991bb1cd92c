"""What users hand in, checked: loaders, files and names.

Apart so that every way in (fixture, option, hook) refuses the same things in the same one sentence,
which names the value and the choices.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from pytest_ckptload.case import Case
from pytest_ckptload.loader import Build, Inputs, Save, loader_name
from pytest_ckptload.report.rule_text import rule_called
from pytest_ckptload.rules import RULES
from pytest_ckptload.zoo import FEATURES

# Errors raised here are sentences for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

__all__ = [
    "check_codes",
    "check_consistent",
    "check_features",
    "check_loader",
    "check_names",
    "features_of",
    "given_case",
    "imported",
    "listed",
    "not_promised",
]


def check_names(what: str, names: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """The names as given. Raises ``ValueError`` for one that is not ``known``."""
    if isinstance(names, str):
        names = (names,)
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {what} {name!r}; there are: {', '.join(known)}")
    return tuple(names)


def check_codes(codes: Iterable[str]) -> None:
    """Raises ``ValueError`` for one that no rule has, with those that are spelt much alike."""
    for code in codes:
        if code not in RULES:
            called = rule_called(code, RULES)
            raise ValueError(
                f"no rule has the code {code!r}: that of {called.name} is {called.code}"
            )


def check_features(
    features: Sequence[str] | None,
    without: Sequence[str],
    *,
    generated: bool,
    optimizers: bool = False,
) -> None:
    """Raises ``ValueError`` for a name that is no feature, or that the owner of the module or of
    the optimizer alone decides; ``optimizers`` says that those are generated, too.
    """
    check_names("feature", features or (), FEATURES)
    check_names("feature", without, FEATURES)
    stepped = [name for name in features or () if FEATURES[name].of == "optimizer"]
    if stepped and not optimizers:
        raise ValueError(
            f"feature {stepped[0]!r} is one of optimizers, which check_resume generates, without "
            "make_optimizer="
        )
    fixed = [name for name in features or () if FEATURES[name].of == "module"]
    if fixed and not generated:
        own = [name for name, f in FEATURES.items() if f.of == "checkpoint"]
        raise ValueError(
            f"feature {fixed[0]!r} is one of modules, and the module is given: "
            f"choose from {', '.join(own)}"
        )


def listed(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """One name is as good as a list of one."""
    if names is None:
        return None
    return (names,) if isinstance(names, str) else tuple(names)


def not_promised(promises: Collection[str], asked: Sequence[str] | None) -> tuple[str, ...]:
    """The features that nothing is demanded of without a promise that was not made.

    Raises ``ValueError`` where one of them was asked for.
    """
    unjudged = []
    for name, feature in FEATURES.items():
        if feature.promise is not None and feature.promise not in promises:
            unjudged.append(name)
            if asked is not None and name in asked:
                raise ValueError(
                    f"feature {name!r} is judged with the promise {feature.promise!r} alone: add "
                    f"promises={{{feature.promise!r}}}, or --ckptload-promises={feature.promise}"
                )
    return tuple(unjudged)


def features_of(half: str) -> tuple[str, ...]:
    """The names of the features of modules, of checkpoints, or of optimizers."""
    return tuple(name for name, feature in FEATURES.items() if feature.of == half)


def check_consistent(
    build: Build | None,
    inputs: Inputs | None,
    checkpoint: str | Path | None,
    save: Save | None,
    semantics: str | None,
    dtype: torch.dtype | None,
) -> None:
    """Raises ``ValueError`` for arguments that contradict each other."""
    if semantics is not None:
        check_names("semantics", [semantics], ("assign", "copy"))
    if inputs is not None and build is None:
        raise ValueError("inputs= are for a module that build= makes: give build=")
    if save is not None and (build is None or checkpoint is not None):
        raise ValueError("save= writes a module that build= makes: give build=, and no checkpoint=")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype={dtype!r}: expected a torch.dtype, such as torch.bfloat16")
    if dtype is not None and semantics is not None:
        raise ValueError(
            f"dtype={dtype} and semantics={semantics!r} contradict each other: give one"
        )


def check_loader(loader: Any, arguments: str = "build, path, device") -> None:
    """Raises ``TypeError`` for what cannot be called as a loader is."""
    if not callable(loader):
        raise TypeError(f"a loader is a callable load({arguments}), not {loader!r}")
    try:
        signature = inspect.signature(loader)
    except (TypeError, ValueError):  # builtins have none
        return
    try:
        signature.bind(*arguments.split(", "))
    except TypeError as error:
        raise TypeError(
            f"{loader_name(loader)}{signature} cannot be called as load({arguments}): {error}"
        ) from None


def given_case(text: str, folder: Path) -> Case:
    """The case of ``--ckptload-replay``: JSON text, or a file of it below ``folder``.

    Raises ``ValueError`` where it is neither.
    """
    if not text.lstrip().startswith("{"):
        path = folder / text
        if not path.is_file():
            raise ValueError(
                f"--ckptload-replay={text}: neither a file nor the JSON text of a case"
            )
        text = path.read_text(encoding="utf-8")
    try:
        return Case.from_json(text)
    except ValueError as error:
        raise ValueError(f"--ckptload-replay: {error}") from None


def imported(option: str, name: str) -> Callable[..., Any]:
    """What ``package.module:name`` names.

    Raises ``ValueError`` where there is none.
    """
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{option}={name}: cannot import {module_name!r}: {error}") from None
    for part in path.split("."):
        if not hasattr(found, part):
            public = [n for n in vars(found) if not n.startswith("_") and callable(vars(found)[n])]
            known = ", ".join(public) or "none"
            raise ValueError(f"{option}={name}: {module_name} has no {part!r}; it has: {known}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{option}={name} is a {type(found).__name__}, which cannot be called")
    return found  # type: ignore[no-any-return]
