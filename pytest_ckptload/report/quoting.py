"""Source text cut out of the files it stands in, with all that it needs to run elsewhere.

Apart from the script because it knows nothing of checkpoints: given a function or a class it
collects its definition, those that it refers to in turn, and the imports they need.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pytest_ckptload.report.sources import (
    Import,
    SourceFile,
    Unquotable,
    file_of,
    file_of_module,
    first_line,
    global_name,
    names_bound,
    names_in,
)

__all__ = ["Quoter", "literal"]

# More than this is no script to read any more: what can be imported is imported.
_MOST_LINES = 200

_LONG = 200


def literal(value: object) -> str:
    """A value as source text. Raises ``Unquotable`` for what is no plain data."""
    if isinstance(value, str):
        if len(value) > _LONG and len(set(value)) == 1:
            return f"{literal(value[0])} * {len(value)}"
        return json.dumps(value) if value.isprintable() and value.isascii() else repr(value)
    if value is None or isinstance(value, bool | int | float | bytes | torch.dtype):
        return repr(value)
    if isinstance(value, torch.device):
        return f'torch.device("{value}")'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + (",)" if len(value) == 1 else ")")
    raise Unquotable(f"{value!r} is no plain data")


@dataclass
class _Collected:
    imports: set[Import] = field(default_factory=set)
    constants: list[str] = field(default_factory=list)
    definitions: dict[tuple[str, int], str] = field(default_factory=dict)
    started: set[tuple[str, int]] = field(default_factory=set)
    origins: dict[str, object] = field(default_factory=dict)

    def copy(self) -> _Collected:
        return _Collected(
            set(self.imports),
            list(self.constants),
            dict(self.definitions),
            set(self.started),
            dict(self.origins),
        )


class Quoter:
    """Collects the definitions and imports of one script.

    ``reserved`` are names that the script needs for itself, ``imports`` what it imports. Two things
    of one name cannot stand in one script: whichever comes second is ``Unquotable``. ``instead``
    has texts for functions that need not be quoted in full, by module and name.
    """

    def __init__(
        self,
        reserved: Collection[str] = (),
        imports: Collection[Import] = (),
        instead: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        self._reserved = frozenset(reserved)
        self._instead = instead or {}
        self._kept = _Collected(origins={i[2]: _origin(i) for i in imports})
        self._taken = 0

    @property
    def imports(self) -> set[Import]:
        """The imports that everything quoted so far needs."""
        return self._kept.imports

    @property
    def constants(self) -> list[str]:
        """The assignments that were quoted and need nothing but imports, to stand below those."""
        return self._kept.constants

    def take(self) -> list[str]:
        """The definitions that came in since the last time, in an order in which they run."""
        texts = list(self._kept.definitions.values())
        fresh, self._taken = texts[self._taken :], len(texts)
        return fresh

    def quote(self, thing: Callable[..., Any]) -> str:
        """Collect the source of ``thing``: an import where that is too long or does not run alone.

        The answer is the expression that refers to it. Raises ``Unquotable``, and collects nothing,
        where neither can be done.
        """
        root = (getattr(thing, "__module__", None) or "").partition(".")[0]
        if root == "torch" and getattr(nn, getattr(thing, "__name__", ""), None) is thing:
            return f"nn.{thing.__name__}"
        ways = [self._import] if _at_hand(root) else [self._quote, self._import]
        before = self._kept
        for way in ways:
            self._kept = before.copy()
            try:
                expression = way(thing)
                added = list(self._kept.definitions.values())[len(before.definitions) :]
                if sum(text.count("\n") + 1 for text in added) > _MOST_LINES:
                    raise Unquotable("too long to quote")
                return expression
            except Unquotable as error:
                reason = error
        self._kept = before
        raise reason

    def _quote(self, thing: Any) -> str:
        if inspect.ismethod(thing) and inspect.isclass(thing.__self__):
            return f"{self._quote(thing.__self__)}.{thing.__name__}"
        name = global_name(thing)
        if name is not None:
            self._define(file_of(thing), name)
            return name
        if not inspect.isfunction(thing) or thing.__closure__ or hasattr(thing, "__wrapped__"):
            raise Unquotable(f"{thing!r} is more than its source")
        return self._quote_inner(thing)

    def _quote_inner(self, function: Any) -> str:
        """Quote a lambda, or a function that stands inside another and takes nothing from it."""
        file, line = file_of(function), function.__code__.co_firstlineno
        kind = ast.Lambda if function.__name__ == "<lambda>" else ast.FunctionDef
        found = [n for n in ast.walk(file.tree) if isinstance(n, kind) and first_line(n) == line]
        if len(found) != 1:
            raise Unquotable(f"{function!r} is not where it should be")
        (node,) = found
        if isinstance(node, ast.Lambda):
            text = f"({ast.unparse(node)})"
            self._add_needs(file, text, set())
            return text
        assert isinstance(node, ast.FunctionDef)
        self._add_statement(file, node, (file.module, line))
        return node.name

    def _import(self, thing: Any) -> str:
        if inspect.ismethod(thing) and inspect.isclass(thing.__self__):
            return f"{self._import(thing.__self__)}.{thing.__name__}"
        name, module = global_name(thing), getattr(thing, "__module__", None) or "__main__"
        found = getattr(sys.modules.get(module), name or "", None)
        if name is None or module == "__main__" or found is not thing:
            raise Unquotable(f"{thing!r} cannot be imported")
        self._claim(name, (module, name))
        self._kept.imports.add((module, name, name))
        return name

    def _define(self, file: SourceFile, name: str) -> None:
        """Collect whatever binds ``name`` at the top of a file."""
        if (file.module, name) in self._instead:
            self._claim(name, file.module)
            self._kept.definitions[file.module, file.bound[name][0].lineno] = self._instead[
                file.module, name
            ]
        elif name in file.bound:
            for statement in file.bound[name]:
                imported = file.imported(statement, name)
                if imported is None:
                    self._add_statement(file, statement, file.module)
                elif name not in file.for_types or _at_hand(imported[0]) or _ours(imported[0]):
                    self._add_import(imported)
        elif not hasattr(builtins, name) and name != "__name__":
            raise Unquotable(f"{file.module} does not say what {name} is")

    def _add_statement(self, file: SourceFile, statement: ast.stmt, origin: object) -> None:
        place = file.module, statement.lineno
        if place in self._kept.started:
            return
        self._kept.started.add(place)
        bound = names_bound(statement)
        for name in bound:
            self._claim(name, origin)
        text = file.text(statement)
        needed = self._add_needs(file, text, bound)
        if isinstance(statement, ast.Assign | ast.AnnAssign) and needed <= self._imported():
            self._kept.constants.append(text)
        else:
            self._kept.definitions[place] = text

    def _imported(self) -> set[str]:
        return {bound for _, _, bound in self._kept.imports} | set(dir(builtins))

    def _add_needs(self, file: SourceFile, text: str, but: set[str]) -> set[str]:
        if any(n.level for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)):
            raise Unquotable("it imports from beside itself")
        needed = names_in(text) - but
        for name in sorted(needed):
            self._define(file, name)
        return needed

    def _add_import(self, imported: Import) -> None:
        module, attribute, bound = imported
        if attribute == bound and _ours(module):
            file = file_of_module(module)
            if bound in file.bound:
                self._define(file, bound)
                return
        self._claim(bound, _origin(imported))
        self._kept.imports.add(imported)

    def _claim(self, name: str, origin: object) -> None:
        if name in self._reserved or self._kept.origins.setdefault(name, origin) != origin:
            raise Unquotable(f"{name} stands for two things")


def _origin(imported: Import) -> object:
    """What makes two imports of one name the same."""
    module, attribute, _ = imported
    return (module, attribute) if attribute else module.partition(".")[0]


def _at_hand(module: str) -> bool:
    root = module.partition(".")[0]
    return root == "torch" or root in sys.stdlib_module_names


def _ours(module: str) -> bool:
    return module.partition(".")[0] == "pytest_ckptload"
