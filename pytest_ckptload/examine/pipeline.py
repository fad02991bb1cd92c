"""The pipeline, for one case: write it, load it both ways, observe, judge.

Apart from the search for cases, and from pytest, so that it can be read in one place and run
anywhere: what goes in is a case, a loader and a device, what comes out are findings.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from pytest_ckptload.case import Case
from pytest_ckptload.contents import state_of, write
from pytest_ckptload.damage import damaged
from pytest_ckptload.examine.examination import Examination, compare
from pytest_ckptload.examine.given import state_in, verified
from pytest_ckptload.examine.loads import folder, quiet, renamed
from pytest_ckptload.examine.progress import stage
from pytest_ckptload.examine.reference import Demands, Sample, reference_of
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.examine.written import WrittenCase
from pytest_ckptload.finding import Finding, Verdict
from pytest_ckptload.loader import Loader, Save, loader_name
from pytest_ckptload.machine.torch_state import preserved
from pytest_ckptload.observe import observe
from pytest_ckptload.printable import described
from pytest_ckptload.recipes import eager
from pytest_ckptload.zoo.from_state import module_like

__all__ = ["examine", "examine_file", "examine_loaded"]


def examine(
    case: Case,
    loader: Loader,
    device: torch.device,
    demands: Demands,
    subject: Subject | None = None,
    where: Path | None = None,
) -> Verdict:
    """Every finding of ``loader`` on ``case``, in the order of codes, without side effects.

    ``subject`` makes the module where the case has none of its own. ``where`` is a folder to write
    to, which is empty again afterwards; left out, there is one for this case alone.
    """
    subject = Subject.of(case) if subject is None or case.module is not None else subject
    with preserved(), folder(where) as empty:
        path = empty / "checkpoint.pt"
        reference_module = None
        with stage("writing"), quiet():
            state = state_of(subject.fresh, subject.structure, case.checkpoint)
            if demands.save is None:
                write(state, path, case.checkpoint)
                path = renamed(path)
            else:
                saved = subject.build()
                saved.load_state_dict(state, assign=False)
                _save(demands.save, saved, path)
                reference_module = saved if demands.reference is None else None
        damage = case.checkpoint.damage
        if damage is not None:
            # As deep as paths in it may climb: what they lead to is in this folder still.
            deep = empty.joinpath(*"abc")
            deep.mkdir(parents=True)
            path = path.rename(deep / path.name)
        sample = Sample(path, state, case)
        with nullcontext() if damage is None else damaged(path, damage):
            return Examination(subject, loader, device, demands, sample, reference_module).run()


def _save(save: Save, module: nn.Module, path: Path) -> None:
    """Raises ``ValueError`` where the user's own function fails."""
    try:
        save(module, path)
    except Exception as error:
        raise ValueError(
            f"save={loader_name(save)} failed: {described(error)} (there is nothing yet at the "
            "path that it is given: it makes a file there, or a folder)"
        ) from error


def examine_file(
    path: Path, loader: Loader, device: torch.device, demands: Demands, subject: Subject | None
) -> Verdict:
    """Every finding of ``loader`` on a given file, which is only read.

    Without a ``subject`` the module is made from the file. Nothing is trained: a loader that maps
    the file shared would have it written to. Where the module is called, its buffers are copies.
    """
    with preserved():
        with stage("reading"), quiet():
            note = verified(path)
            state = state_in(path)
            held = Subject(lambda: module_like(state)) if subject is None else subject
            held.fresh  # noqa: B018  (what is wrong with the names shows here)
        sample = Sample(path, state, given=True)
        verdict = Examination(held, loader, device, demands, sample).run()
        return replace(verdict, notes=(note, *verdict.notes))


def examine_loaded(module: nn.Module, case: WrittenCase) -> list[Finding]:
    """Every finding on a module that somebody loaded from a written case."""
    tensors = [place.tensor for place in observe(module).places.values()]
    device = next((t.device for t in tensors if not t.is_meta), torch.device("cpu"))
    with preserved(), quiet():
        eager_module = eager(case.build, case.path, device)
        return compare(
            module, reference_of(eager_module, case.state, Subject(case.build), Demands())
        )
