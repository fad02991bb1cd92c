"""What was done to a case's file as lines of Python that do the same.

Apart from the lines of the checkpoint because these are about bytes: short where the damage is,
and the whole file as text where it is not.
"""

from __future__ import annotations

import base64
import tempfile
import textwrap
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import nn

from pytest_ckptload.case import Case, Damage
from pytest_ckptload.contents import state_of, write
from pytest_ckptload.damage import DAMAGES, MARK, damaged, describe
from pytest_ckptload.report.quoting import literal
from pytest_ckptload.zoo.structure import structure_of

__all__ = ["file_lines"]

_ROW = 88
# More than this is no script to read any more.
_MOST_ROWS = 40
_MOST_FLIPS = 4


def file_lines(case: Case, module: nn.Module | None) -> Iterator[str]:
    """Lines that write ``state`` to ``path``, and do what the case does to the file.

    ``module`` is a fresh one of the case. Without it, or where the file is too large to be text,
    the last line asks for the damage.
    """
    damage = case.checkpoint.damage
    if damage is None or damage.kind not in DAMAGES:
        yield "torch.save(state, path)"
    elif damage.kind in _SHORT:
        yield "torch.save(state, path)"
        yield from _SHORT[damage.kind](damage)
    elif module is None:
        yield from _asked_for(damage)
    else:
        yield from _changed(damage, *_before_and_after(case, module, damage))
    if damage is not None and DAMAGES[damage.kind].hostile:
        yield 'mark = Path(folder.name, "mark")  # what the code in the file leaves if it runs'
        yield f"os.environ[{literal(MARK)}] = str(mark)"


def _before_and_after(case: Case, module: nn.Module, damage: Damage) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory(prefix="ckptload-") as folder:
        # Torch writes a file's name into it.
        path = Path(folder, "checkpoint.pt")
        write(state_of(module, structure_of(module), case.checkpoint), path)
        before = path.read_bytes()
        with damaged(path, damage):
            return before, path.read_bytes()


def _changed(damage: Damage, before: bytes, after: bytes) -> Iterator[str]:
    rows = textwrap.wrap(base64.b64encode(zlib.compress(after, 9)).decode(), _ROW)
    if len(rows) <= _MOST_ROWS:
        yield from _comment(damage)
        yield "data = ("
        yield from (f'    "{row}"' for row in rows)
        yield ")"
        yield "path.write_bytes(zlib.decompress(base64.b64decode(data)))"
        return
    places = [] if len(before) != len(after) else _unlike(before, after)
    if not 0 < len(places) <= _MOST_FLIPS:
        yield from _asked_for(damage)
        return
    yield "torch.save(state, path)"
    yield from _comment(damage)
    yield "data = bytearray(path.read_bytes())"
    for place in places:
        yield f"data[{place}] ^= {before[place] ^ after[place]:#04x}"
    yield "path.write_bytes(data)"


def _comment(damage: Damage) -> list[str]:
    said = f"This file was {describe(damage)}."
    return textwrap.wrap(said, _ROW, initial_indent="# ", subsequent_indent="# ")


def _unlike(before: bytes, after: bytes) -> list[int]:
    pairs = enumerate(zip(before, after, strict=True))
    return [place for place, (left, right) in pairs if left != right]


def _asked_for(damage: Damage) -> list[str]:
    wanted = f"now damage {{path}}: the file was {describe(damage)}"
    return ["torch.save(state, path)", f"raise SystemExit(f{literal(wanted)})"]


def _truncated(damage: Damage) -> list[str]:
    return [
        "data = path.read_bytes()",
        f"path.write_bytes(data[: int(len(data) * {damage.where!r})])",
    ]


def _pipe(damage: Damage) -> list[str]:
    return [
        "path.unlink()",
        "os.mkfifo(path)",
        "",
        "",
        "def feed() -> None:",
        "    while path.exists():",
        "        path.open('wb').close()  # waits for a reader, and gives it nothing",
        "",
        "",
        "threading.Thread(target=feed, daemon=True).start()",
    ]


_SHORT: Mapping[str, Callable[[Damage], list[str]]] = {
    "emptied": lambda damage: ['path.write_bytes(b"")'],
    "truncated": _truncated,
    "special-folder": lambda damage: ["path.unlink()", "path.mkdir()"],
    "special-zero": lambda damage: ["path.unlink()", 'path.symlink_to("/dev/zero")'],
    "special-pipe": _pipe,
}
