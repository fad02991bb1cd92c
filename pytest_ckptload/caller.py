"""The line of a caller's that is likely to be moved: one that makes an optimizer too soon.

Apart from the assertion because it reads source, which need not be there. Where the optimizer is
made elsewhere, or nothing behind it touches the module, nothing is said.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

__all__ = ["line_to_move"]


def line_to_move(frame: FrameType, function: str) -> str | None:
    """Which line comes too soon in the code that is calling ``function(optimizer, module)``."""
    path = frame.f_code.co_filename
    lines = linecache.getlines(path, frame.f_globals)
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:  # the cell of a notebook with commands in it, say
        return None
    call = _call_at(tree, frame.f_lineno, function)
    if call is None or len(arguments := _arguments(call)) < 2:
        return None
    optimizer, module = (ast.unparse(argument) for argument in arguments[:2])
    before = [node for node in _within(tree, call) if node.lineno < call.lineno]
    made = [node for node in before if isinstance(node, ast.Assign) and _sets(node, optimizer)]
    if not made:
        return None
    last = max(made, key=lambda node: node.lineno)
    behind = [node for node in before if node.lineno > (last.end_lineno or last.lineno)]
    replaces = [node for node in behind if _assigns_to(node, module)]
    replaces = replaces or [node for node in behind if _may_replace(node, module)]
    if not replaces:
        return None
    other = max(node.lineno for node in replaces)
    first, second = (f"line {n}, `{lines[n - 1].strip()}`" for n in (last.lineno, other))
    return f"In {Path(path).name}, {first}, is likely to be moved behind {second}."


def _call_at(tree: ast.Module, line: int, function: str) -> ast.Call | None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or line):
            name = ast.unparse(node.func)
            if name.rpartition(".")[2] == function:
                return node
    return None


def _arguments(call: ast.Call) -> list[ast.expr]:
    """The optimizer and the module, however they are handed over."""
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    rest = [named[name] for name in ("optimizer", "module") if name in named]
    return [*call.args, *rest]


def _within(tree: ast.Module, call: ast.Call) -> Iterator[ast.stmt]:
    """The statements of the innermost function around a call, or those outside of all."""
    around: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef = tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
            inside is call for inside in ast.walk(node)
        ):
            around = node  # those inside of others come later
    yield from (node for node in ast.walk(around) if isinstance(node, ast.stmt))


def _sets(node: ast.Assign, name: str) -> bool:
    targets = [part for target in node.targets for part in ast.walk(target)]
    return name in (ast.unparse(part) for part in targets if isinstance(part, ast.expr))


def _assigns_to(node: ast.stmt, module: str) -> bool:
    """Whether a statement is sure to put other parameters in the place of the module's."""
    for call in _calls(node):
        if isinstance(call.func, ast.Attribute) and _is_or_is_in(call.func.value, module):
            arguments = [ast.unparse(keyword) for keyword in call.keywords]
            loads = call.func.attr == "load_state_dict" and "assign=True" in arguments
            if loads or call.func.attr == "to_empty":
                return True
    return False


def _may_replace(node: ast.stmt, module: str) -> bool:
    """Whether a statement hands the module to somebody, or sets a part of it."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(_is_or_is_in(target, module) for target in targets) or any(
        ast.unparse(value) == module
        for call in _calls(node)
        for value in (*call.args, *(keyword.value for keyword in call.keywords))
    )


def _is_or_is_in(node: ast.expr, module: str) -> bool:
    text = ast.unparse(node)
    return text == module or text.startswith((f"{module}.", f"{module}["))


def _calls(node: ast.stmt) -> Iterator[ast.Call]:
    """The calls of a statement that has no other statements in it."""
    if not hasattr(node, "body"):
        yield from (inside for inside in ast.walk(node) if isinstance(inside, ast.Call))
