"""What can be done to a checkpoint's file after it was written, and the marks that it may leave.

Apart from ``contents`` because it knows nothing of tensors or modules: bytes come in, bytes go out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pytest_ckptload.case import Damage
from pytest_ckptload.damage import cuts, flips, hostile, pickles, records, sizes, special
from pytest_ckptload.damage.hostile import MARK
from pytest_ckptload.damage.kind import Kind
from pytest_ckptload.damage.marks import Marks, watched

__all__ = ["DAMAGES", "MARK", "Kind", "Marks", "damaged", "describe", "watched"]

DAMAGES: Mapping[str, Kind] = {
    **cuts.KINDS,
    **flips.KINDS,
    **records.KINDS,
    **sizes.KINDS,
    **pickles.KINDS,
    **special.KINDS,
    **hostile.KINDS,
}
"""Every kind of damage by its name, simplest first: what this system can do."""


def describe(damage: Damage) -> str:
    """What was done to the file, to go on from "the file was …"."""
    return _kind(damage).sentence.format(where=damage.where)


@contextmanager
def damaged(path: Path, damage: Damage) -> Iterator[None]:
    """Have the file at ``path`` damaged, for good; a pipe in its place works inside only.

    The path must keep its name inside. Raises ``ValueError`` for a kind that is not known.
    """
    kind = _kind(damage)
    if kind.alter is not None:
        path.write_bytes(kind.alter(path.read_bytes(), damage.where))
        yield
    elif kind.replace is not None:
        with kind.replace(path):
            yield


def _kind(damage: Damage) -> Kind:
    if damage.kind not in DAMAGES:
        raise ValueError(
            f"there is no damage {damage.kind!r} on this system; there are: {', '.join(DAMAGES)}"
        )
    return DAMAGES[damage.kind]
