"""Source text cut out of the files it stands in, with all that it needs to run elsewhere.

Apart from the script because it knows nothing of checkpoints: given a function or a class it collects
its definition, those that it refers to in turn, and the imports they need.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import json
import symtable
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

__all__ = ["Import", "Quoter", "Unquotable", "imports_text", "literal", "names_bound", "names_in"]

_PACKAGE = "pytest_ckptload"

# More than this is no script to read any more: what can be imported is imported.
_MOST_LINES = 200

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


def literal(value: object) -> str:
    """A value as source text. Raises ``Unquotable`` for what is no plain data."""
    if isinstance(value, str):
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


class _Home:
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
        """The source of a statement, decorators included, from the left margin on."""
        lines = self.lines[_first_line(node) - 1 : node.end_lineno]
        return textwrap.dedent("\n".join(lines))

    def imported(self, statement: ast.stmt, name: str) -> Import | None:
        """What an import statement binds to ``name``."""
        for alias in getattr(statement, "names", ()):
            bound = alias.asname or alias.name.partition(".")[0]
            if bound == name and isinstance(statement, ast.Import):
                return (alias.name, None, bound)
            if bound == name and isinstance(statement, ast.ImportFrom):
                target = "." * statement.level + (statement.module or "")
                return (importlib.util.resolve_name(target, self.package), alias.name, bound)
        return None


@lru_cache(maxsize=64)
def _home_of_module(name: str) -> _Home:
    module = importlib.import_module(name)
    return _Home(name, module.__package__ or "", inspect.getsource(module))


def _home_of(thing: Any) -> _Home:
    """The file where ``thing`` was defined. Raises ``Unquotable`` where that cannot be read."""
    name = getattr(thing, "__module__", None) or ""
    module = sys.modules.get(name)
    function = inspect.unwrap(thing)
    try:
        lines, _ = inspect.findsource(function if inspect.isfunction(function) else module)  # type: ignore[arg-type]
        package = getattr(module, "__package__", None) or name.rpartition(".")[0]
        return _Home(name, package, "".join(lines))
    except (OSError, TypeError, SyntaxError) as error:
        raise Unquotable(f"no source: {error}") from error


def _global_name(thing: Any) -> str | None:
    """The name of ``thing`` at the top of its file."""
    namespace = getattr(inspect.unwrap(thing), "__globals__", None)
    if namespace is None:
        namespace = vars(sys.modules.get(getattr(thing, "__module__", None) or "", object))
    names = [getattr(thing, "__name__", ""), *namespace]
    return next((name for name in names if name and namespace.get(name) is thing), None)


@dataclass
class _Collected:
    imports: set[Import] = field(default_factory=set)
    definitions: dict[tuple[str, int], str] = field(default_factory=dict)
    started: set[tuple[str, int]] = field(default_factory=set)
    origins: dict[str, object] = field(default_factory=dict)

    def copy(self) -> _Collected:
        return _Collected(
            set(self.imports), dict(self.definitions), set(self.started), dict(self.origins)
        )


class Quoter:
    """Collects the definitions and imports of one script.

    ``reserved`` are names that the script needs for itself. Two things of one name cannot stand in
    one script: whichever comes second is ``Unquotable``. ``instead`` has texts for functions that
    need not be quoted in full, by module and name.
    """

    def __init__(
        self, reserved: Collection[str], instead: Mapping[tuple[str, str], str] | None = None
    ) -> None:
        self._reserved = frozenset(reserved)
        self._instead = instead or {}
        self._kept = _Collected()
        self._taken = 0

    @property
    def imports(self) -> set[Import]:
        """The imports that everything quoted so far needs."""
        return self._kept.imports

    def take(self) -> list[str]:
        """The definitions that came in since the last time, in an order in which they run."""
        texts = list(self._kept.definitions.values())
        fresh, self._taken = texts[self._taken :], len(texts)
        return fresh

    def quote(self, thing: Callable[..., Any]) -> str:
        """Collect the source of ``thing``, or an import where that is too long or does not run alone.

        The answer is the expression that refers to it. Raises ``Unquotable``, and collects nothing,
        where neither can be done.
        """
        before = self._kept
        for way in (self._quote, self._import):
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
        name = _global_name(thing)
        if name is not None:
            self._define(_home_of(thing), name)
            return name
        if not inspect.isfunction(thing) or thing.__closure__ or hasattr(thing, "__wrapped__"):
            raise Unquotable(f"{thing!r} is more than its source")
        return self._quote_inner(thing)

    def _quote_inner(self, function: Any) -> str:
        """Quote a lambda, or a function that stands inside another and takes nothing from it."""
        home, line = _home_of(function), function.__code__.co_firstlineno
        kind = ast.Lambda if function.__name__ == "<lambda>" else ast.FunctionDef
        found = [n for n in ast.walk(home.tree) if isinstance(n, kind) and _first_line(n) == line]
        if len(found) != 1:
            raise Unquotable(f"{function!r} is not where it should be")
        (node,) = found
        if isinstance(node, ast.Lambda):
            text = f"({ast.unparse(node)})"
            self._add_needs(home, text, set())
            return text
        assert isinstance(node, ast.FunctionDef)
        self._add_statement(home, node, (home.module, line))
        return node.name

    def _import(self, thing: Any) -> str:
        if inspect.ismethod(thing) and inspect.isclass(thing.__self__):
            return f"{self._import(thing.__self__)}.{thing.__name__}"
        name, module = _global_name(thing), getattr(thing, "__module__", None)
        if name is None or not module or module == "__main__":
            raise Unquotable(f"{thing!r} cannot be imported")
        self._claim(name, (module, name))
        self._kept.imports.add((module, name, name))
        return name

    def _define(self, home: _Home, name: str) -> None:
        """Collect whatever binds ``name`` at the top of a file."""
        if (home.module, name) in self._instead:
            self._claim(name, home.module)
            self._kept.definitions[home.module, home.bound[name][0].lineno] = self._instead[
                home.module, name
            ]
        elif name in home.bound:
            for statement in home.bound[name]:
                imported = home.imported(statement, name)
                if imported is None:
                    self._add_statement(home, statement, home.module)
                elif name not in home.for_types or _at_hand(imported[0]):
                    self._add_import(imported)
        elif not hasattr(builtins, name) and name != "__name__":
            raise Unquotable(f"{home.module} does not say what {name} is")

    def _add_statement(self, home: _Home, statement: ast.stmt, origin: object) -> None:
        place = home.module, statement.lineno
        if place in self._kept.started:
            return
        self._kept.started.add(place)
        bound = names_bound(statement)
        for name in bound:
            self._claim(name, origin)
        text = home.text(statement)
        self._add_needs(home, text, bound)
        self._kept.definitions[place] = text

    def _add_needs(self, home: _Home, text: str, but: set[str]) -> None:
        if any(n.level for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)):
            raise Unquotable("it imports from beside itself")
        for name in sorted(names_in(text) - but):
            self._define(home, name)

    def _add_import(self, imported: Import) -> None:
        module, attribute, bound = imported
        if attribute == bound and module.partition(".")[0] == _PACKAGE:
            home = _home_of_module(module)
            if bound in home.bound:
                self._define(home, bound)
                return
        self._claim(bound, imported[:2] if attribute else module.partition(".")[0])
        self._kept.imports.add(imported)

    def _claim(self, name: str, origin: object) -> None:
        if name in self._reserved or self._kept.origins.setdefault(name, origin) != origin:
            raise Unquotable(f"{name} stands for two things")


def _first_line(node: ast.AST) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([getattr(node, "lineno", 0), *(d.lineno for d in decorators)])


def _at_hand(module: str) -> bool:
    root = module.partition(".")[0]
    return root in (_PACKAGE, "torch") or root in sys.stdlib_module_names
