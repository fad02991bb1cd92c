"""What a check finds, and the exception that carries it.

Apart because everything after the rules speaks in findings and nothing else: they are plain data,
go through pipes and JSON, and know neither torch nor pytest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_ckptload.printable import printable

if TYPE_CHECKING:
    from pytest_ckptload.case import Case

__all__ = ["CheckpointMismatch", "Finding", "Verdict"]


@dataclass(frozen=True)
class Finding:
    """One rule, broken at one place.

    ``place`` is the name of the tensor or module; ``names`` are all the tensor names it speaks of.
    ``advice`` findings are shown and do not fail. ``because_of`` is the code and the place of the
    finding that explains this one, where another does.
    """

    code: str
    rule: str
    place: str
    evidence: str
    cause: str
    fix: str
    names: tuple[str, ...] = ()
    advice: bool = False
    because_of: tuple[str, str] | None = None

    def __str__(self) -> str:
        return printable(f"{self.code} {self.rule} at {self.place}: {self.evidence}")

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON-able data."""
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """What became of one case: its findings, and how far it could be judged.

    ``judged`` says that there was a reference to compare with, or a promise to hold the loader to,
    ``refused`` is the error with which the reference refused a file that is no damage of ours.
    ``died`` says that the process died that examined it, ``notes`` what else there is to say.
    ``dtypes`` and ``optimizer`` are what the file was made with, where that much became known.
    """

    findings: tuple[Finding, ...] = ()
    judged: bool = False
    refused: str | None = None
    died: bool = False
    notes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    optimizer: str | None = None


class CheckpointMismatch(AssertionError):
    """A loader did not give the model that eager loading gives.

    ``findings`` says what differs, those that explain others first; ``case`` is the smallest case
    that shows it (``None`` when a given module was judged), ``report`` the whole text, ``script`` a
    program that needs only torch and shows the same, where there can be one.
    """

    def __init__(
        self, report: str, findings: Sequence[Finding] = (), case: Case | None = None
    ) -> None:
        super().__init__(report)
        self.report = report
        self.findings = tuple(findings)
        self.case = case
        self.script: str | None = None
