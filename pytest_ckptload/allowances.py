"""Findings that are accepted: which ones, where, and why.

Apart from the rules, which say what is wrong whoever asks. It knows neither torch nor pytest: the
options are read, and the end of a session is told, without a load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pytest_ckptload.finding import Finding
from pytest_ckptload.printable import printable

if TYPE_CHECKING:
    from pytest_ckptload.case import Case

# Errors raised here are sentences for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

__all__ = ["Allow", "Allowance", "Allowances", "allowances", "unused_lines"]

Allow = Callable[[Finding, "Case"], "str | None"]
"""Why a finding on a case is accepted; ``None`` where it is not."""


@dataclass(frozen=True)
class Allowance:
    """Leave for the findings of one rule that speak of a name which ``pattern`` matches.

    ``where`` says who gave it: the id of a test, of a class or of a module, or the ini key. Empty
    stands for the check at hand.
    """

    code: str
    pattern: str
    reason: str
    where: str = ""

    @property
    def key(self) -> str:
        """As it is spelt."""
        return self.code if self.pattern == "*" else f"{self.code} {self.pattern}"

    def covers(self, finding: Finding) -> bool:
        """Whether this finding is accepted."""
        return finding.code == self.code and any(
            fnmatchcase(name, self.pattern) for name in (finding.place, *finding.names)
        )


def allowances(given: Mapping[str, str], where: str = "") -> tuple[Allowance, ...]:
    """The allowances that people spell as ``{"CKPT203 encoder.*": "why"}``: a rule's code, and
    after a space, where it does not hold for all names, a pattern of those it holds for.

    Raises ``TypeError`` for what is no mapping, ``ValueError`` for one without a code or a reason.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            f"allow={given!r}: expected rule codes, each with a reason, as in "
            "allow={'CKPT401': 'callers tie weights again'}"
        )
    return tuple(_allowance(key, reason, where) for key, reason in given.items())


def _allowance(key: str, reason: object, where: str) -> Allowance:
    code, _, pattern = str(key).strip().partition(" ")
    if not code:
        raise ValueError(f"allow={{{key!r}: {reason!r}}}: expected the code of a rule")
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError(f"allow={{{key!r}: {reason!r}}}: say why this is accepted, in words")
    return Allowance(code, pattern.strip() or "*", reason.strip(), where)


class Allowances:
    """All that is allowed in one check; called with a finding and its case, it says why.

    ``known`` is asked first, and has the last word where it has one. Of ``given`` all that cover a
    finding count as used, and the first tells the reason.
    """

    def __init__(self, given: Iterable[Allowance], known: Allow | None = None) -> None:
        self._used = dict.fromkeys(given, False)
        self._known = known
        self._reasons: dict[str, str] = {}

    def __call__(self, finding: Finding, case: Case) -> str | None:
        reason = None if self._known is None else self._known(finding, case)
        if reason is not None:
            self._reasons[finding.code] = reason
            return reason
        covering = [allowance for allowance in self._used if allowance.covers(finding)]
        self._used.update(dict.fromkeys(covering, True))
        self._reasons.update({allowance.key: allowance.reason for allowance in covering})
        return covering[0].reason if covering else None

    @property
    def codes(self) -> list[str]:
        """The codes of the rules that may be broken, those known apart."""
        return [allowance.code for allowance in self._used]

    @property
    def reasons(self) -> dict[str, str]:
        """Why findings were accepted so far, by the keys of the allowances that covered them."""
        return dict(self._reasons)

    @property
    def used(self) -> list[Allowance]:
        """Those given that covered a finding so far."""
        return [allowance for allowance, used in self._used.items() if used]

    @property
    def unused(self) -> list[Allowance]:
        """Those given that covered none."""
        return [allowance for allowance, used in self._used.items() if not used]


def unused_lines(told: Iterable[tuple[str, str, str, bool]]) -> list[str]:
    """A line for each allowance that nobody used: ``told`` has, from every test, who gave one, its
    key, its reason, and whether it was used there.
    """
    used: dict[tuple[str, str, str], bool] = {}
    for where, key, reason, here in told:
        used[where, key, reason] = used.get((where, key, reason), False) or here
    return [
        printable(f"{where}: {key} matched nothing ({reason})")
        for (where, key, reason), anywhere in used.items()
        if not anywhere
    ]
