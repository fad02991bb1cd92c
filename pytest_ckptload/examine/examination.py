"""One load of one sample, from the reference to the findings: the order in which things are asked.

Apart from the pipeline, which makes the sample, so that this order can be read in one place.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from warnings import WarningMessage

import torch
from torch import nn

from pytest_ckptload.case import Case
from pytest_ckptload.contents import dtypes_in, write
from pytest_ckptload.damage import Marks, watched
from pytest_ckptload.examine.expected import (
    details,
    filled_through_ties,
    is_wrapped,
    refusable,
)
from pytest_ckptload.examine.loads import Loaded, attempt, quiet, without
from pytest_ckptload.examine.progress import stage
from pytest_ckptload.examine.reference import (
    Demands,
    Expectation,
    Sample,
    expectation,
    read,
    reference_of,
    translated,
)
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.examine.trials.again import loaded_again, other_contents, stale_names
from pytest_ckptload.examine.trials.ambient import under_defaults
from pytest_ckptload.examine.trials.behaviour import behave, behave_whole
from pytest_ckptload.examine.trials.lifetime import after_changing, after_deleting
from pytest_ckptload.examine.trials.surroundings import Surroundings
from pytest_ckptload.examine.trials.training import train
from pytest_ckptload.finding import Finding, Verdict
from pytest_ckptload.loader import Loader
from pytest_ckptload.machine.device_memory import Taken
from pytest_ckptload.machine.torch_state import Kept, same_random
from pytest_ckptload.observe import Observation, observe
from pytest_ckptload.recipes.eager import built, state_dict_in
from pytest_ckptload.rules import (
    Aftermath,
    Attempt,
    Comparison,
    DeviceMemory,
    FileFacts,
    judge,
)
from pytest_ckptload.rules.comparison import Reference, as_built

__all__ = ["Examination", "accused", "compare"]


# What back ends raise for operators and dtypes that they do not have.
_LACKING = ("NotImplementedError", "TypeError")


@dataclass
class Examination:
    """One load of one sample, from the reference to the findings."""

    subject: Subject
    loader: Loader
    device: torch.device
    demands: Demands
    sample: Sample
    reference_module: nn.Module | None = None
    findings: list[Finding] = field(default_factory=list)
    unseen: dict[str, str] = field(default_factory=dict)
    repeated: bool = False
    said: list[WarningMessage] = field(default_factory=list)
    translated: frozenset[str] = frozenset()

    def run(self) -> Verdict:
        case, demands = self.sample.case, self.demands
        expected = self._expected()
        expect, reference = expected.expect, expected.module
        written = self.sample.bytes(verified=True)
        around = None if self.sample.given else Surroundings(self.sample.path)
        with self._watched() as marks:
            attempted = self._load()
            loaded = attempted.returned
            ignored = self._ignored(loaded) if is_wrapped(case.checkpoint) else None
            if ignored is not None and expect in ("wrapped", "shapes", "mismatch"):
                expect, reference = "mismatch", ignored
            elif expect == "wrapped":
                expect = "load"
            ending = self._ending(expect, attempted, marks)
        self.findings += judge(ending)
        left = self.sample.bytes()
        succeeded = expect == "load" and attempted.error is None
        aftermath = self._aftermath(attempted.left, expected.left if succeeded else None, around)
        if succeeded and attempted.taken is not None and expected.taken is not None:
            self.findings += judge(self._memory(attempted.taken, expected))
        trained = left
        if reference is not None and isinstance(loaded, nn.Module):
            self._compare(loaded, reference, expect, self._values(left, reference is ignored))
            if not self.sample.given:  # of which nothing is trained
                trained = self.sample.bytes()
        self.findings += judge(FileFacts(written, left, trained))
        if case.checkpoint.damage is None:
            self.findings += judge(aftermath)
        if isinstance(loaded, nn.Module) and reference is not None and self._ours(trained):
            self._outlive(loaded)
        judged = (
            reference is not None
            or expect == "shapes"
            or (expect == "damage" and "robust" in demands.promises)
        )
        return Verdict(
            tuple(self.findings),
            judged,
            expected.refused,
            notes=(*self._lacking(expected.refused), *self._unseen()),
            dtypes=dtypes_in(self.sample.values),
        )

    def _ending(self, expect: str, attempted: Loaded, marks: Marks | None) -> Attempt:
        """How the load ended, beside how it should have."""
        case, structure, error = self.sample.case, self.subject.structure, attempted.error
        returned = attempted.returned
        tied = filled_through_ties(case.checkpoint, structure)
        return Attempt(
            expect,
            self.demands.promises - ({"strict"} if tied else set()),
            error,
            None if error or isinstance(returned, nn.Module) else _described(returned),
            details(case),
            refusable(case, self.sample.values, structure, self.demands.dtype),
            None if marks is None else marks.executed(),
            () if marks is None else tuple(map(str, marks.climbed())),
            (*case.checkpoint.missing, *case.checkpoint.extra),
        )

    def _values(self, left: object, ignored: bool) -> Mapping[str, Any]:
        """What the file has for the module, by name: nothing for who may ignore what it holds, and
        nothing that is known where only a caller's reference reads it.
        """
        if ignored or self._foreign:
            return {}
        if self.sample.case.checkpoint.damage is not None and left is not None:
            # Damage that the eager recipe accepts is charged to nobody: what it reads counts.
            return state_dict_in(read(self.sample.path))
        return self.sample.values

    def _compare(
        self, loaded: nn.Module, reference: nn.Module, expect: str, values: Mapping[str, Any]
    ) -> None:
        """Look at both modules; where the file is as it should be, call and train them."""
        case = self.sample.case
        lenient = expect == "mismatch" or self.demands.reference is not None
        held = reference_of(
            reference,
            values,
            self.subject,
            self.demands,
            lenient=lenient,
            translated=self.translated,
        )
        with quiet():
            with stage("observation"):
                actual = observe(loaded)
                if case.module is None:  # what we generate is known to be so
                    self.unseen = held.eager.unseen
                self.findings += judge(Comparison(actual, held))
            if expect != "load":
                return
            # Before anything is called: calls write to what the second load is compared with.
            ours = not (self.sample.given or self.findings)
            self.repeated = ours and not case.features
            if ours and _may_be_kept(case):
                with stage("second load"):
                    again = loaded_again(actual, self._load, self.subject.construct, held)
                    self.findings += judge(again)
            if self.repeated and "ambient" in self.demands.promises:
                with stage("second load"):
                    self.findings += judge(under_defaults(self._load, self.device))
            with stage("behaviour"):
                self._call(actual, held.eager)
            if self.sample.given:
                return
            with stage("training"):
                self.findings += train(actual, held.eager, accused(self.findings))

    def _call(self, actual: Observation, eager: Observation) -> None:
        """Call both modules with the same, where it is known with what."""
        spec, known = self.sample.case.module, accused(self.findings)
        if spec is not None:
            self.findings += judge(behave(spec, actual, eager, known))
        elif (arguments := self.subject.arguments) is not None:
            behaviour = behave_whole(*arguments, actual, eager, known)
            self.findings += judge(behaviour)
            which = "the outputs" if self.sample.given else "the outputs in some cases"
            for reason in behaviour.unsettled.values():
                self.unseen[which] = reason

    def _expected(self) -> Expectation:
        if self.reference_module is not None:
            return Expectation("load", self.reference_module.to(self.device))
        with quiet() as said:
            expected = expectation(self.sample, self.subject, self.demands, self.device)
            told = self.demands.reference is not None and (self.sample.given or self._foreign)
            if told and expected.module is not None:
                known = replace(self.sample, values={}) if self._foreign else self.sample
                self.translated = translated(
                    expected.module, known, self.subject, self.demands, self.device
                )
        self.said += said
        return expected

    @property
    def _foreign(self) -> bool:
        """Whether the file is written by a caller's own function, to be read by a reference."""
        return self.demands.save is not None and self.demands.reference is not None

    def _aftermath(self, left: Kept, wanted: Kept | None, around: Surroundings | None) -> Aftermath:
        """What the load left behind; ``wanted`` is what the eager load did."""
        random = False
        if wanted is not None and wanted.random is not None and left.random is not None:
            random = not same_random(wanted.random, left.random)
        files = {} if around is None else around.since()
        return Aftermath(left.changed, random, promises=self.demands.promises, **files)

    def _unseen(self) -> Iterator[str]:
        for name, what in self.unseen.items():
            yield f"not observed: {name} ({what})"

    def _lacking(self, refused: str | None) -> Iterator[str]:
        """What the device cannot do, by the error with which the eager recipe failed there."""
        if self.device.type != "cpu" and (refused or "").startswith(_LACKING):
            line = (refused or "").splitlines()[0]
            yield f"not judged on {self.device}: {line[:160]}"

    def _memory(self, taken: Taken, expected: Expectation) -> DeviceMemory:
        """What the load took beside what eager loading takes. Garbage that goes in the meantime
        makes less of either: where the load took more, both are looked at again without.
        """
        eager = expected.taken
        assert eager is not None
        # Allocators round up, each block to some 512 bytes.
        slack = max(eager.held, 0) // 4 + 512 * (len(self.sample.values) + 1)
        if taken.held > eager.held + slack or taken.peak > eager.peak + slack:
            taken = taken.collected()
            eager = self._expected().taken or eager
        return DeviceMemory(str(self.device), taken.peak, taken.held, eager.peak, eager.held, slack)

    def _ours(self, left: object) -> bool:
        """Whether the file may be destroyed, and is there yet."""
        return not self.sample.given and left is not None

    def _outlive(self, loaded: nn.Module) -> None:
        """Destroy the file, last of all, and see what becomes of the module."""
        held = self.sample.path.with_name(f"held-{self.sample.path.name}")
        with stage("lifetime"), quiet():
            self.findings += judge(after_deleting(loaded, self.sample.path, held))
            if "detached" in self.demands.promises:
                for life in after_changing(loaded, held):
                    self.findings += judge(life)
        if self.repeated:
            with stage("second load"), quiet():
                now = other_contents(self.sample.values)
                self._replace(now)
                self.findings += judge(stale_names(self._load(), self.sample.values, now))

    def _replace(self, state: Mapping[str, Any]) -> None:
        """Another checkpoint under the same name, written as the first was."""
        path = self.sample.path
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        if self.demands.save is None:
            write(state, path, self.sample.case.checkpoint)
        else:
            module = self.subject.build()
            module.load_state_dict(state, assign=False)
            self.demands.save(module, path)

    def _ignored(self, loaded: Any) -> nn.Module | None:
        """The module that loading nothing gives, if a loader that accepted a wrapped file took
        nothing of it: the loaded module is the same.
        """
        if not isinstance(loaded, nn.Module):
            return None
        untouched = built(self.subject.construct, self.device)
        with suppress(Exception):  # code of the module's own may want something to load
            untouched.load_state_dict({}, strict=False)
        initial, places = observe(untouched).places, observe(loaded).places
        alike = places.keys() == initial.keys() and all(
            as_built(place, initial[name]) for name, place in places.items()
        )
        return untouched if alike else None

    def _watched(self) -> AbstractContextManager[Marks | None]:
        """Watch what a damaged file does to the process that loads it; no other does anything."""
        if self.sample.case.checkpoint.damage is None:
            return nullcontext()
        return watched(self.sample.path)

    def _load(self) -> Loaded:
        with without(self.said):
            return attempt(
                lambda: self.loader(self.subject.construct, self.sample.path, self.device),
                self.device,
                fill=self.subject.fillable,
            )


def _may_be_kept(case: Case) -> bool:
    """Whether a case shows what a loader keeps between loads: a plain one, or one feature in a
    module of one part, for a loader may keep one kind of tensor.
    """
    parts = () if case.module is None else case.module.children
    return not case.features or (len(case.features) == 1 and not parts)


def compare(loaded: nn.Module, reference: Reference) -> list[Finding]:
    """The findings about a loaded module beside its reference."""
    return judge(Comparison(observe(loaded), reference))


def accused(findings: list[Finding]) -> frozenset[str]:
    """The names that findings speak of: what else is wrong with them is a consequence."""
    return frozenset(n for finding in findings if not finding.advice for n in finding.names)


def _described(returned: object) -> str:
    if returned is None:
        return "None; if it cannot do this device, name those it can with `devices=`"
    return f"a {type(returned).__module__}.{type(returned).__qualname__}"
