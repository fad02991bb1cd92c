"""A checkpoint of the user's own: looked at, its checksums verified, its state dict read.

Apart from the inputs because most of it runs where the loads run: the file may be damaged, and
reading it must not end the session. It is opened for reading and for nothing else.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pytest_ckptload.recipes.eager import state_dict_in

# Errors raised here are sentences for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

__all__ = ["broken_record", "checked_path", "state_in", "verified"]


def checked_path(checkpoint: str | Path) -> Path:
    """The path of a file that can be read and is not empty.

    Raises ``ValueError`` (``FileNotFoundError``, ``PermissionError``) where it is none.
    """
    path = Path(checkpoint).absolute()
    if not path.exists():
        raise FileNotFoundError(f"checkpoint={str(checkpoint)!r} does not exist")
    if not path.is_file():
        raise ValueError(f"checkpoint={str(checkpoint)!r} is not a file")
    try:
        empty = not _start(path)
    except PermissionError:
        raise PermissionError(f"checkpoint={str(checkpoint)!r} cannot be read") from None
    if empty:
        raise ValueError(f"checkpoint={str(checkpoint)!r} is empty")
    return path


def verified(path: Path) -> str:
    """What was verified: the checksum of each record of a zip archive, which torch does not check.

    The file is streamed. Raises ``ValueError`` where a checksum is not that of its record.
    """
    if not _is_archive(path):
        return f"{path.name} is no zip archive: it has no checksums to verify"
    try:
        broken = broken_record(path)
        with zipfile.ZipFile(path) as archive:
            count = len(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError) as error:
        raise ValueError(f"checkpoint={str(path)!r} is a damaged zip archive: {error}") from None
    if broken is not None:
        raise ValueError(
            f"checkpoint={str(path)!r} is damaged: its record {broken!r} does not have the "
            "checksum that was written with it"
        )
    size = path.stat().st_size / 1e6
    return f"the checksums of the {count} records in {path.name} ({size:.3g} MB) are right"


def broken_record(path: Path) -> str | None:
    """The first record of a zip archive that has not its checksum."""
    if not _is_archive(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def state_in(path: Path) -> Mapping[str, Any]:
    """The state dict in the file, mapped where it can be.

    Raises ``ValueError`` where there is none that torch reads.
    """
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_archive(path))
        return state_dict_in(payload)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"checkpoint={str(path)!r} is not a checkpoint that torch.load(weights_only=True) "
            f"reads: {reason[:200]}"
        ) from None


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


def _is_archive(path: Path) -> bool:
    return _start(path) == b"PK"
