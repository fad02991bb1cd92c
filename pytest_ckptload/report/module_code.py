"""The module of a case as the calls that build it.

Apart from the script because it is the layout of nested calls and nothing else.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_ckptload.case import ModuleSpec
from pytest_ckptload.report.quoting import Quoter, literal
from pytest_ckptload.report.sources import Unquotable
from pytest_ckptload.zoo import TENSOR_ARGUMENTS, factory

__all__ = ["module_lines"]

_WIDTH = 96

_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")


def module_lines(spec: ModuleSpec, quoter: Quoter) -> list[str]:
    """The body of a function that returns the module; ``quoter`` collects what it takes.

    Raises ``Unquotable`` where that has no source.
    """
    # As deep as "    return " or "    module = ", whichever it will be.
    call = _module(spec, quoter, 13)
    edits = [
        f"{quoter.quote(factory(edit.function))}({', '.join([target, *_keywords(edit.kwargs)])})"
        for target, part in _parts(spec, "module")
        for edit in part.edits
    ]
    return [f"module = {call}", *edits, "return module"] if edits else [f"return {call}"]


def _module(spec: ModuleSpec, quoter: Quoter, indent: int) -> str:
    name = quoter.quote(factory(spec.factory))
    if spec.factory not in _CONTAINERS:
        given = [
            f"{key}={_module(child, quoter, indent + 5 + len(key))}"
            for key, child in spec.children.items()
        ]
        return _wrapped(f"{name}(", [*given, *_keywords(spec.kwargs)], ")", indent)
    children = [_module(child, quoter, indent + 4) for child in spec.children.values()]
    if spec.factory == "ModuleList":
        return _wrapped(f"{name}([", children, "])", indent)
    if spec.factory == "ModuleDict":
        pairs = zip(spec.children, children, strict=True)
        items = [f"{literal(key)}: {child}" for key, child in pairs]
        return _wrapped(f"{name}({{", items, "})", indent)
    return _wrapped(f"{name}(", children, ")", indent)


def _parts(spec: ModuleSpec, path: str) -> Iterator[tuple[str, ModuleSpec]]:
    """Every part of a module with the expression for it, in the order in which they are built."""
    for index, (name, child) in enumerate(spec.children.items()):
        step = literal(name) if spec.factory == "ModuleDict" else index
        for inside, part in _parts(child, f"{path}[{step}]"):
            if part.edits and spec.factory not in _CONTAINERS:
                # It may keep a copy, as TransformerEncoder does, and under any name.
                raise Unquotable(f"nobody knows where {spec.factory} keeps its {name}")
            yield inside, part
    yield path, spec


def _keywords(kwargs: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_argument(name, value)}" for name, value in kwargs.items()]


def _argument(name: str, value: Any) -> str:
    if name == "dtype" and isinstance(value, str):
        return f"torch.{value}"
    if name in TENSOR_ARGUMENTS and isinstance(value, tuple):
        return f"torch.tensor({literal(value)})"
    return literal(value)


def _wrapped(opening: str, items: Sequence[str], closing: str, indent: int) -> str:
    """A call on one line, or each argument on its own line where that is too long."""
    line = opening + ", ".join(items) + closing
    if len(line) + indent <= _WIDTH and "\n" not in line:
        return line
    inner = textwrap.indent(",\n".join(items), "    ")
    return f"{opening}\n{inner},\n{closing}"
