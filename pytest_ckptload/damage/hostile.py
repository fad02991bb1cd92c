"""Checkpoints whose pickle runs code when it is unpickled without care.

All that the code does is to leave a mark: an empty file where an environment variable says, or an
imported module that nothing else imports. Each is the ordinary checkpoint besides: what it pushes
is popped again, so that the state dict still comes out. Nothing here is ever unpickled.
"""

from __future__ import annotations

import os

from pytest_ckptload.damage.kind import Alter, Kind
from pytest_ckptload.damage.layout import layout_of
from pytest_ckptload.damage.pickles import with_pickle

__all__ = ["IMPORTED", "KINDS", "MARK"]

MARK = "CKPTLOAD_MARK"
"""The environment variable with the path of the file that is written."""

IMPORTED = "__hello__"
"""The module that is imported: a frozen one of Python's own, without any use."""

_PROTOCOL = b"\x80\x02"
_POP = b"0"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def _call(function: bytes, *arguments: bytes) -> bytes:
    """Opcodes that leave on the stack what a function returns: MARK, TUPLE, REDUCE."""
    return function + b"(" + b"".join(arguments) + b"tR"


def _closed(thing: bytes) -> bytes:
    return _call(_call(_global("builtins", "getattr"), thing, _text("close")))


_WRITE = f"open(__import__('os').environ[{MARK!r}], 'w').close()"
_OPEN = _call(_global("builtins", "open"), _call(_global("os", "getenv"), _text(MARK)), _text("w"))
_SYSTEM = f'copy nul "%{MARK}%" >nul' if os.name == "nt" else f': > "${MARK}"'
_EXEC = _call(_global("builtins", "exec"), _text(_WRITE), b"}") + _POP


def _first(code: bytes) -> Alter:
    """The change that puts opcodes in front of all others of the pickle."""

    def alter(data: bytes, where: float) -> bytes:
        entry = layout_of(data).pickle()
        pickle = data[entry.data : entry.end]
        return with_pickle(data, _PROTOCOL + code + pickle.removeprefix(_PROTOCOL))

    return alter


def _made_to(what: str, code: bytes) -> Kind:
    return Kind(f"made to {what} when it is unpickled", _first(code), hostile=True)


KINDS = {
    "hostile-system": _made_to(
        "call os.system", _call(_global("os", "system"), _text(_SYSTEM)) + _POP
    ),
    "hostile-exec": _made_to("call exec", _EXEC),
    "hostile-eval": _made_to(
        "call eval", _call(_global("builtins", "eval"), _text(_WRITE), b"}") + _POP
    ),
    "hostile-open": _made_to("write a file", _closed(_OPEN) + _POP),
    "hostile-import": _made_to("import a module", _global(IMPORTED, "initialized") + _POP),
    "hostile-socket": _made_to(
        "make a socket",
        _closed(_call(_global("socket", "socket"))) + _POP + _closed(_OPEN) + _POP,
    ),
    "hostile-legacy": Kind(
        "replaced by a bare pickle that calls exec",
        lambda data, where: _PROTOCOL + _EXEC + b"}.",
        hostile=True,
    ),
}
