"""What becomes of a loaded module when something happens to the file that it was loaded from.

Apart from the pipeline because the file is destroyed here, and the process that looks on may be: so
what is judged by promise alone happens in a fork.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import torch
from torch import nn

from pytest_ckptload.observe import observe
from pytest_ckptload.observe.tensors import plain, same_tensor
from pytest_ckptload.printable import described
from pytest_ckptload.rules import Lifetime

__all__ = ["after_changing", "after_deleting"]

_PATIENCE = 30.0

Values = dict[str, torch.Tensor]


def after_deleting(module: nn.Module, path: Path, held: Path) -> Lifetime:
    """What is left of ``module`` when its checkpoint is gone, and another in its place.

    The checkpoint itself goes on as ``held``, for ``after_changing``.
    """
    before = _values(module)
    path.rename(held)
    for file in _files(held):
        place = path / file.relative_to(held)
        if held.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bytes(file.stat().st_size))
    changed, error = _unlike(module, before)
    return Lifetime("deleted and replaced", changed, error)


def after_changing(module: nn.Module, held: Path) -> Iterator[Lifetime]:
    """What is left of ``module`` when its checkpoint, ``held``, is saved over and truncated.

    Nothing where the system has no fork.
    """
    if not hasattr(os, "fork"):
        return
    before = _values(module)
    for event, change in (("saved over", _save_over), ("truncated", _truncate)):
        yield _in_a_fork(event, change, module, before, held)


def _save_over(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"\xaa" * file.stat().st_size)


def _truncate(file: Path) -> None:
    os.truncate(file, 0)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [p for p in sorted(path.rglob("*")) if p.is_file()]


def _values(module: nn.Module) -> Values:
    return {
        name: _copied(plain(place.tensor))
        for name, place in observe(module).places.items()
        if not place.tensor.is_meta
    }


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """A copy byte by byte: one of bools has 1 for every byte that is not 0."""
    if tensor.dtype != torch.bool:
        return tensor.clone()
    return tensor.view(torch.uint8).clone().view(torch.bool)


def _unlike(module: nn.Module, before: Values) -> tuple[tuple[str, ...], str | None]:
    """The names whose values are not those of before, and what reading them raised."""
    try:
        module.state_dict()
        places = observe(module).places
        changed = [
            name
            for name, value in before.items()
            if name not in places or not same_tensor(places[name].tensor, value)
        ]
    except Exception as error:
        return (), described(error)
    return tuple(changed), None


def _in_a_fork(
    event: str, change: Callable[[Path], None], module: nn.Module, before: Values, held: Path
) -> Lifetime:
    here, there = multiprocessing.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the fork starts none
        process = os.fork()
    if process == 0:
        _look(event, change, module, before, held, there)
    there.close()
    try:
        answer = here.recv_bytes() if here.poll(_PATIENCE) else b""
    except EOFError:
        answer = b""
    finally:
        here.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    if answer:
        changed, error = json.loads(answer)
        return Lifetime(event, tuple(changed), error)
    code = os.waitstatus_to_exitcode(status)
    name = signal.Signals(-code).name if code < 0 else f"status {code}"
    return Lifetime(event, (), f"the process died of {name} when the loaded tensors were read")


def _look(
    event: str,
    change: Callable[[Path], None],
    module: nn.Module,
    before: Values,
    held: Path,
    answer: Connection,
) -> NoReturn:
    try:
        faulthandler.disable()
        for file in _files(held):
            change(file)
        answer.send_bytes(json.dumps(_unlike(module, before)).encode())
    finally:
        os._exit(0)
