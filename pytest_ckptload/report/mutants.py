"""What became of the mutants of a session, in lines for the terminal.

Apart from the trials so that what they say can be read, and tested, without running one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from pytest_ckptload.faults import FAULTS
from pytest_ckptload.scores import KILLED, SURVIVED, UNFIT, Mutant, Trial

__all__ = ["mutant_lines"]

_WIDTH = 100


def mutant_lines(trials: Mapping[str, Sequence[Trial]]) -> Iterator[str]:
    """The lines about all trials, by the test they were made in: survivors first, each with what it
    does and why nothing saw it.
    """
    if not any(trials.values()):
        yield "no check passed by: mutants are made of loaders in ckptload.check(…),"
        yield "ckptload.check_resume(…), --ckptload-loader and pytest_ckptload_loaders"
    for where, made in trials.items():
        for trial in made:
            yield from _of_one(where, trial)


def _of_one(where: str, trial: Trial) -> Iterator[str]:
    if trial.failed is not None:
        yield f"{where}, {trial.loader}: no mutant was tried: {trial.failed}"
        return
    killed, survived, unfit = (trial.those(outcome) for outcome in (KILLED, SURVIVED, UNFIT))
    yield (
        f"{where}, {trial.loader}: {len(killed)} of {len(killed) + len(survived)} mutants killed, "
        f"{len(unfit)} not applicable"
    )
    for mutant in survived:
        yield f"  survived {mutant.code} {_named(mutant)}: {mutant.reason}"
        yield from _wrapped(FAULTS[mutant.fault].sentence, "           ")
    if killed:
        yield from _wrapped("killed " + ", ".join(f"{_named(m)} {m.code}" for m in killed), "  ")
    by_reason: dict[str, list[str]] = {}
    for mutant in unfit:
        by_reason.setdefault(mutant.reason, []).append(_named(mutant))
    for reason, names in by_reason.items():
        yield from _wrapped(f"not applicable {', '.join(names)}: {reason}", "  ")


def _named(mutant: Mutant) -> str:
    return mutant.fault.replace("_", " ")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ")
