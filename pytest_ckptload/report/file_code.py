"""A case's file as lines of Python that write the same: its format, and what was done to it.

Apart from the lines of the checkpoint because these are about bytes: short where that can be said,
and the whole file as text where it cannot.
"""

from __future__ import annotations

import base64
import lzma
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from torch import nn

from pytest_ckptload.case import Case, CheckpointSpec, Damage
from pytest_ckptload.contents import state_of, write
from pytest_ckptload.contents.file import BESIDE
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
    spec = case.checkpoint
    damage = spec.damage
    payload, lines = _payload(spec)
    yield from lines
    save = f"torch.save({payload}, path)"
    if damage is not None and damage.kind in _SHORT:
        yield save
        yield from _SHORT[damage.kind](damage)
    elif damage is not None and module is None:
        yield save
        yield from _asked_for(damage)
    elif damage is not None and module is not None:
        yield from _changed(save, damage, *_before_and_after(case, module, damage))
    else:
        yield from _tagged(spec.device, _written(case, module, payload))
    if damage is not None and DAMAGES[damage.kind].hostile:
        yield 'mark = Path(folder.name, "mark")  # what the code in the file leaves if it runs'
        yield f"os.environ[{literal(MARK)}] = str(mark)"


def _payload(spec: CheckpointSpec) -> tuple[str, list[str]]:
    """The name of what is saved, and the lines that make it of ``state``."""
    if not spec.prefix and not spec.payload:
        return "state", []
    inner = "state"
    if spec.prefix:
        inner = f"{{{literal(spec.prefix)} + name: value for name, value in state.items()}}"
    if not spec.payload:
        return "payload", [f"payload = {inner}"]
    return "payload", [
        f"payload = {literal(dict(BESIDE))}",
        f"payload[{literal(spec.payload)}] = {inner}",
    ]


def _tagged(device: str | None, lines: Iterable[str]) -> Iterator[str]:
    if device is None:
        yield from lines
        return
    yield "location_tag = torch.serialization.location_tag"
    yield f"torch.serialization.location_tag = lambda storage: {literal(device)}"
    yield from lines
    yield "torch.serialization.location_tag = location_tag"


def _written(case: Case, module: nn.Module | None, payload: str) -> Iterator[str]:
    """Lines that write the file in its format."""
    form = case.checkpoint.format
    if form == "legacy":
        yield f"torch.save({payload}, path, _use_new_zipfile_serialization=False)"
        return
    if form in ("zip", "deflated"):
        yield f"torch.save({payload}, path)"
    if form == "deflated":
        yield "with zipfile.ZipFile(path) as archive:"
        yield "    records = {name: archive.read(name) for name in archive.namelist()}"
        yield 'with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:'
        yield "    for name, record in records.items():"
        yield "        archive.writestr(name, record)"
    elif form != "zip":
        rows = [] if module is None else _rows(_file_of(case, module))
        if not 0 < len(rows) <= _MOST_ROWS:
            yield f"torch.save({payload}, path)"
            yield f"raise SystemExit(f{literal(f'now write {{path}} anew as {form}')})"
            return
        yield f"# This file was written as {form}."
        yield from _as_text(rows)


def _file_of(case: Case, module: nn.Module) -> bytes:
    with tempfile.TemporaryDirectory(prefix="ckptload-") as folder:
        path = Path(folder, "checkpoint.pt")
        write(state_of(module, structure_of(module), case.checkpoint), path, case.checkpoint)
        return path.read_bytes()


def _rows(data: bytes) -> list[str]:
    return textwrap.wrap(base64.b64encode(lzma.compress(data)).decode(), _ROW)


def _as_text(rows: Iterable[str]) -> Iterator[str]:
    yield "data = ("
    yield from (f'    "{row}"' for row in rows)
    yield ")"
    yield "path.write_bytes(lzma.decompress(base64.b64decode(data)))"


def _before_and_after(case: Case, module: nn.Module, damage: Damage) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory(prefix="ckptload-") as folder:
        # Torch writes a file's name into it.
        path = Path(folder, "checkpoint.pt")
        state = state_of(module, structure_of(module), case.checkpoint)
        write(state, path, case.checkpoint)
        before = path.read_bytes()
        with damaged(path, damage):
            return before, path.read_bytes()


def _changed(save: str, damage: Damage, before: bytes, after: bytes) -> Iterator[str]:
    rows = _rows(after)
    if len(rows) <= _MOST_ROWS:
        yield from _comment(damage)
        yield from _as_text(rows)
        return
    yield save
    places = [] if len(before) != len(after) else _unlike(before, after)
    if not 0 < len(places) <= _MOST_FLIPS:
        yield from _asked_for(damage)
        return
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
    return [f"raise SystemExit(f{literal(wanted)})"]


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
