"""Source files: the statements they are made of, and the names those bind and need.

Apart from quoting because nothing is chosen here: it is syntax and nothing else.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import symtable
import sys
import textwrap
from functools import lru_cache
from typing import Any

__all__ = [
    "Import",
    "SourceFile",
    "Unquotable",
    "file_of",
    "file_of_module",
    "first_line",
    "global_name",
    "imports_text",
    "names_bound",
    "names_in",
]

Import = tuple[str, "str | None", str]
"""Module, attribute and the name it is bound to; no attribute for ``import module``."""


class Unquotable(Exception):
    """There is no source, or what there is does not run by itself."""


def names_in(text: str) -> set[str]:
    """The names that ``text`` refers to and does not bind in a function or class of its own."""
    found: set[str] = set()
    tables = [symtable.symtable(text, "<quoted>", "exec")]
    while tables:
        table = tables.pop()
        outermost = table.get_type() == "module"
        found.update(
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (outermost or symbol.is_global())
        )
        tables += table.get_children()
    return found


def names_bound(statement: ast.stmt) -> set[str]:
    """The names that a statement binds where it stands."""
    symbols = symtable.symtable(ast.unparse(statement), "<quoted>", "exec").get_symbols()
    return {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}


def imports_text(imports: set[Import]) -> str:
    """Import statements in their usual order: of the standard library, a blank line, all others."""
    sections: list[list[str]] = [[], []]
    plain = sorted((i for i in imports if i[1] is None), key=lambda i: (i[0], i[2]))
    for module, _, bound in plain:
        alias = "" if bound == module.partition(".")[0] else f" as {bound}"
        sections[_foreign(module)].append(f"import {module}{alias}")
    for module in sorted({i[0] for i in imports if i[1] is not None}):
        names = sorted((str(i[1]), i[2]) for i in imports if i[0] == module and i[1] is not None)
        listed = ", ".join(n if n == bound else f"{n} as {bound}" for n, bound in names)
        sections[_foreign(module)].append(f"from {module} import {listed}")
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _foreign(module: str) -> bool:
    return module.partition(".")[0] not in sys.stdlib_module_names


class SourceFile:
    """A file that is quoted from: its statements by the names they bind."""

    def __init__(self, module: str, package: str, text: str) -> None:
        self.module = module
        self.package = package
        self.lines = text.splitlines()
        self.tree = ast.parse(text)
        self.bound: dict[str, list[ast.stmt]] = {}
        self.for_types: set[str] = set()
        self._bind(self.tree.body)

    def _bind(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
                known = set(self.bound)
                self._bind(statement.body)
                self.for_types |= set(self.bound) - known
                continue
            for name in names_bound(statement):
                self.bound.setdefault(name, []).append(statement)

    def text(self, node: ast.stmt) -> str:
        """The source of a statement, decorators included, from the left margin on, without what
        was said to type checkers and linters.
        """
        lines = self.lines[first_line(node) - 1 : node.end_lineno]
        return _TO_CHECKERS.sub("", textwrap.dedent("\n".join(lines)))

    def imported(self, statement: ast.stmt, name: str) -> Import | None:
        """What an import statement binds to ``name``."""
        for alias in getattr(statement, "names", ()):
            bound = alias.asname or alias.name.partition(".")[0]
            if bound == name and isinstance(statement, ast.Import):
                parent, _, child = alias.name.rpartition(".")
                # import torch.nn as nn: the same as from torch import nn, and written so.
                renamed = alias.asname is not None and parent
                return (parent, child, bound) if renamed else (alias.name, None, bound)
            if bound == name and isinstance(statement, ast.ImportFrom):
                target = "." * statement.level + (statement.module or "")
                return (importlib.util.resolve_name(target, self.package), alias.name, bound)
        return None


_TO_CHECKERS = re.compile(r"  # (?:type: ignore|noqa)\b.*$", re.MULTILINE)
_parsed = lru_cache(maxsize=64)(SourceFile)


def file_of_module(name: str) -> SourceFile:
    """The file of a module of ours."""
    module = importlib.import_module(name)
    return _parsed(name, module.__package__ or "", inspect.getsource(module))


def file_of(thing: Any) -> SourceFile:
    """The file where ``thing`` was defined. Raises ``Unquotable`` where that cannot be read."""
    name = getattr(thing, "__module__", None) or ""
    module = sys.modules.get(name)
    function = inspect.unwrap(thing)
    try:
        lines, _ = inspect.findsource(function if inspect.isfunction(function) else module)  # type: ignore[arg-type]
        package = getattr(module, "__package__", None) or name.rpartition(".")[0]
        return _parsed(name, package, "".join(lines))
    except (OSError, TypeError, SyntaxError) as error:
        raise Unquotable(f"no source: {error}") from error


def global_name(thing: Any) -> str | None:
    """The name of ``thing`` at the top of its file."""
    namespace = getattr(inspect.unwrap(thing), "__globals__", None)
    if namespace is None:
        namespace = vars(sys.modules.get(getattr(thing, "__module__", None) or "", object))
    names = [getattr(thing, "__name__", ""), *namespace]
    return next((name for name in names if name and namespace.get(name) is thing), None)


def first_line(node: ast.AST) -> int:
    """The line where a statement or expression begins, decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    lines: list[int] = [decorator.lineno for decorator in decorators]
    return min([*lines, getattr(node, "lineno", 0)])
