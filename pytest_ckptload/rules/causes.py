"""Which finding explains which: where several rules break for one reason, one of them says it.

Apart from the rules because it speaks of them all: a table, and the function that goes by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from pytest_ckptload.finding import Finding

__all__ = ["CAUSES", "Cause", "Where", "folded"]

Keys = Callable[[Finding], Iterable[str]]


@dataclass(frozen=True)
class Where:
    """How far an explanation goes: to findings whose ``of_effect`` and ``of_cause`` meet; in words,
    where those are.
    """

    words: str
    of_cause: Keys
    of_effect: Keys


def _names(finding: Finding) -> Iterator[str]:
    yield from finding.names


def _modules(finding: Finding) -> Iterator[str]:
    """The modules that a finding lies in, from the inside out."""
    for name in finding.names:
        path = name.partition("[")[0]
        while "." in path:
            path = path.rpartition(".")[0]
            yield path
    yield "the module"


def _names_and_modules(finding: Finding) -> Iterator[str]:
    yield from finding.names
    yield from _modules(finding)


def _the_step(finding: Finding) -> Iterator[str]:
    yield "the step"


def _always(finding: Finding) -> Iterator[str]:
    yield ""


SAME_TENSOR = Where("on the same tensors", _names, _names)
INSIDE = Where("in the module", _names, _modules)
AROUND = Where("in the module, and those that it is in", _names_and_modules, _names)
THE_STEP = Where("of the step as a whole", _the_step, _names)
ANYWHERE = Where("anywhere", _always, _always)


@dataclass(frozen=True)
class Cause:
    """Findings of ``codes`` explain those of ``effects``, as far as ``where`` says.

    A code may be cut short: ``"CKPT1"`` stands for all that are about values.
    """

    codes: tuple[str, ...]
    effects: tuple[str, ...]
    where: Where
    why: str

    def explains(self, cause: str, effect: str) -> bool:
        """Whether a finding with the code ``cause`` may explain one with the code ``effect``."""
        return cause.startswith(self.codes) and self._affects(effect)

    def pairs(self, findings: Iterable[Finding]) -> Iterator[tuple[Finding, Finding]]:
        """What is explained among ``findings``, each with the first that explains it."""
        causes: dict[str, Finding] = {}
        effects = []
        for finding in findings:
            if finding.code.startswith(self.codes):
                for key in self.where.of_cause(finding):
                    causes.setdefault(key, finding)
            elif self._affects(finding.code):
                effects.append(finding)
        for effect in effects if causes else ():
            known = (causes[key] for key in self.where.of_effect(effect) if key in causes)
            if (cause := next(known, None)) is not None:
                yield effect, cause

    def _affects(self, code: str) -> bool:
        return code.startswith(self.effects) and not code.startswith(self.codes)


CAUSES = (
    Cause(
        ("CKPT806", "CKPT809"),
        ("CKPT805",),
        ANYWHERE,
        "what does harm on the way was read to its end",
    ),
    Cause(
        ("CKPT804",),
        ("CKPT1", "CKPT301", "CKPT303"),
        SAME_TENSOR,
        "a name that the file lacks has no value",
    ),
    Cause(
        ("CKPT804",),
        ("CKPT302",),
        ANYWHERE,
        "a name that the module lacks was registered, as it stands in the file or changed",
    ),
    Cause(
        ("CKPT306",),
        ("CKPT204", "CKPT207", "CKPT30"),
        INSIDE,
        "a module of another class has tensors, state and hooks of its own",
    ),
    Cause(
        ("CKPT301",),
        ("CKPT302",),
        ANYWHERE,
        "a tensor that was renamed is missing under one name and too many under the other",
    ),
    Cause(
        ("CKPT304",),
        ("CKPT206", "CKPT208", "CKPT309", "CKPT5"),
        SAME_TENSOR,
        "a buffer has no gradient, no hook on it and no optimizer, and a parameter has them all",
    ),
    Cause(
        ("CKPT207",),
        ("CKPT208", "CKPT309"),
        SAME_TENSOR,
        "what an object carried went with it",
    ),
    Cause(
        ("CKPT201", "CKPT202", "CKPT203", "CKPT204", "CKPT205"),
        ("CKPT1", "CKPT401"),
        SAME_TENSOR,
        "what was converted is a copy, with bits of its own",
    ),
    Cause(
        ("CKPT401",),
        ("CKPT1", "CKPT5"),
        SAME_TENSOR,
        "a name that was filled and stepped along with another now has to be by itself",
    ),
    Cause(
        ("CKPT402",),
        ("CKPT1", "CKPT5"),
        SAME_TENSOR,
        "what is written to one element shows in another",
    ),
    Cause(
        ("CKPT303",),
        ("CKPT1", "CKPT5"),
        SAME_TENSOR,
        "a meta tensor holds nothing, and no step moves it",
    ),
    Cause(
        ("CKPT205", "CKPT303", "CKPT404"),
        ("CKPT508",),
        THE_STEP,
        "an optimizer that cannot write to one tensor, or has to read it, raises for all",
    ),
    Cause(
        ("CKPT206",),
        ("CKPT502", "CKPT508"),
        SAME_TENSOR,
        "what requires no gradient is given to no optimizer",
    ),
    Cause(
        ("CKPT501",),
        ("CKPT502", "CKPT505", "CKPT508"),
        SAME_TENSOR,
        "an optimizer that holds the tensor of before does not hold the one of now",
    ),
    Cause(
        ("CKPT504",),
        ("CKPT502", "CKPT505", "CKPT508"),
        SAME_TENSOR,
        "what a group is made of, and its settings, decide which parameters are stepped, and how",
    ),
    Cause(
        ("CKPT301", "CKPT302", "CKPT305", "CKPT401"),
        ("CKPT504",),
        ANYWHERE,
        "an optimizer's groups are made of the parameters that there are, in their order",
    ),
    Cause(
        ("CKPT507",),
        ("CKPT508",),
        SAME_TENSOR,
        "what is written for one parameter is read for another",
    ),
    Cause(
        ("CKPT301", "CKPT302", "CKPT305", "CKPT401", "CKPT502", "CKPT503"),
        ("CKPT505",),
        ANYWHERE,
        "an optimizer's state is given to parameters by their position",
    ),
    Cause(
        ("CKPT306", "CKPT308", "CKPT309"),
        ("CKPT901",),
        AROUND,
        "a module calls those in it, and its hooks and theirs",
    ),
    Cause(
        ("CKPT306", "CKPT309"),
        ("CKPT902",),
        ANYWHERE,
        "a gradient comes by way of all modules that are called later, and of their hooks",
    ),
    Cause(
        ("CKPT403",),
        ("CKPT705",),
        ANYWHERE,
        "what is kept of one load is given out by the next",
    ),
)
"""What explains what. Where several lines could, the first counts; no code explains itself by way
of others.
"""


def folded(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The same findings: first those that no other explains, then the others, in the order given.

    The others say by ``because_of`` which of the first explains them, be it by way of some between.
    """
    findings = tuple(findings)
    causes: dict[Finding, Finding] = {}
    if len({finding.code for finding in findings}) > 1:
        for line in CAUSES:
            for effect, cause in line.pairs(findings):
                causes.setdefault(effect, cause)
    leading = [finding for finding in findings if finding not in causes]
    others = [finding for finding in findings if finding in causes]
    return (*leading, *(replace(f, because_of=_leading(f, causes)) for f in others))


def _leading(finding: Finding, causes: dict[Finding, Finding]) -> tuple[str, str]:
    while finding in causes:
        finding = causes[finding]
    return finding.code, finding.place
