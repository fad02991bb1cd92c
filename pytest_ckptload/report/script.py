"""A stand-alone script for a case: it needs nothing but torch, and shows the failure.

Apart from the texts because it is a program: it makes the module by calls, the checkpoint by values,
quotes the source of whatever else it needs, loads both ways, and asserts what should hold.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import Case, ModuleSpec
from pytest_ckptload.contents import fill
from pytest_ckptload.finding import Finding
from pytest_ckptload.loader import Build, loader_name
from pytest_ckptload.report.assertions import Scene, assertion_lines
from pytest_ckptload.report.checkpoint_code import checkpoint_lines, damage_lines
from pytest_ckptload.report.quoting import Import, Quoter, Unquotable, literal
from pytest_ckptload.report.sources import imports_text, names_in
from pytest_ckptload.rules import RULES
from pytest_ckptload.zoo import factory, seeded

__all__ = ["script"]

_WIDTH = 96

# What the script calls its own: nothing that is quoted may be called the same.
_RESERVED = frozenset(
    "before bits build data expected first folder fresh held index indices left loaded name nn "
    "parameter parameters path right saved second state storage tensor value wanted written".split()
)

_OWN_IMPORTS: dict[str, Import] = {
    "tempfile": ("tempfile", None, "tempfile"),
    "Path": ("pathlib", "Path", "Path"),
    "torch": ("torch", None, "torch"),
    "nn": ("torch", "nn", "nn"),
}

# The recipes look for a state dict anywhere in a file: here it is the file.
_INSTEAD = {
    ("pytest_ckptload.recipes.eager", "state_dict_in"): (
        "def state_dict_in(payload: object) -> object:\n"
        "    return payload  # the file holds nothing but the state dict"
    )
}

_BITS = '''\
def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a tensor."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return plain.view(-1).view(torch.uint8)'''

# Rules about memory that nobody wrote to, or wrote to in part.
_POISONED = ("CKPT101", "CKPT102")


def script(
    case: Case,
    findings: Sequence[Finding],
    loader: Callable[..., Any],
    *,
    dtype: torch.dtype | None = None,
    build: Build | None = None,
    device: torch.device | None = None,
) -> str:
    """A program that writes the case's checkpoint, loads it both ways, and asserts what was found.

    ``dtype`` is the one the loader casts to, ``build`` the factory of the user's own module, where the
    case has none. A loader or factory that can be neither quoted nor imported is left as a function
    to be filled in.
    """
    return _Script(case, findings, loader, dtype, build, device or torch.device("cpu")).text()


class _Script:
    """One script in the making."""

    def __init__(
        self,
        case: Case,
        findings: Sequence[Finding],
        loader: Callable[..., Any],
        dtype: torch.dtype | None,
        build: Build | None,
        device: torch.device,
    ) -> None:
        self.case = case
        self.findings = findings
        self.loader = loader
        self.dtype = dtype
        self.device = literal(device)
        self.given = build
        # A user's factory may well be called build.
        own = "fresh" if case.module is None and loader_name(build or script) == "build" else "build"
        self.build = own
        self.quoter = Quoter(_RESERVED - {"build"} | {own}, _INSTEAD)
        self.codes = {finding.code for finding in findings}

    def text(self) -> str:
        """The whole program."""
        module = self._fresh()
        factory = self._factory()
        checkpoint = [
            line.replace("build()", f"{self.build}()", 1)
            for line in checkpoint_lines(self.case, module)
        ]
        asserted = assertion_lines(self.findings, Scene(self.case, module, self.dtype))
        if any("fill(" in line for line in checkpoint):
            self.quoter.quote(fill)
        helpers = self.quoter.take()
        if any("bits(" in line for line in asserted):
            helpers.append(_BITS)
        call = self._call()
        main = [*checkpoint, *self._file(asserted), *self._loads(call, asserted), *asserted]
        blocks = [*factory, *helpers, *self.quoter.take(), "\n".join(main)]
        body = "\n\n\n".join(blocks)
        imports = self.quoter.imports | {
            _OWN_IMPORTS[name] for name in names_in(body) & set(_OWN_IMPORTS)
        }
        head = [self._title(imports), "from __future__ import annotations", imports_text(imports)]
        return "\n\n".join(head) + "\n\n\n" + body + "\n"

    def _title(self, imports: set[Import]) -> str:
        codes = list(dict.fromkeys(f"{f.code} {f.rule}" for f in self.findings))
        features = ", ".join(self.case.features)
        on = f"a case with {features}" if features else "a plain case"
        lines = [f"{' and '.join(codes)}: {loader_name(self.loader)} on {on}."]
        if self.findings and self.findings[0].code in RULES:
            lines.append(RULES[self.findings[0].code].statement)
        others = {module.partition(".")[0] for module, _, _ in imports} - {"torch"}
        import sys
        needed = sorted(others - set(sys.stdlib_module_names))
        lines.append(f"It takes {' and '.join(['torch', *needed])} to run, and ends in an error.")
        text = "\n\n".join([lines[0], "\n".join(lines[1:])])
        return f'"""{text}\n"""'.replace("\\", "\\\\")
