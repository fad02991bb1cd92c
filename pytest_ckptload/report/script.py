"""A stand-alone script for a case: it needs nothing but torch, and shows the failure.

Apart from the texts because it is a program: it makes the module by calls and the checkpoint by
values, quotes the source of whatever else it needs, loads, and asserts what should hold.
"""

from __future__ import annotations

import builtins
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import Case
from pytest_ckptload.contents import fill
from pytest_ckptload.finding import Finding
from pytest_ckptload.loader import Build, loader_name
from pytest_ckptload.report.assertions import assertion_lines
from pytest_ckptload.report.checkpoint_code import checkpoint_lines
from pytest_ckptload.report.file_code import file_lines
from pytest_ckptload.report.module_code import module_lines
from pytest_ckptload.report.quoting import Quoter, literal
from pytest_ckptload.report.scene import Scene
from pytest_ckptload.report.sources import Import, Unquotable, imports_text, names_in
from pytest_ckptload.rules import RULES
from pytest_ckptload.zoo import seeded

__all__ = ["script"]

_WIDTH = 96

# What the script calls its own: nothing that is quoted may be called the same.
_NAMES = """
    archive before bits build data expected feed first folder held index indices kept left loaded
    location_tag mark name parameter parameters path payload record records right saved second
    shared state storage tensor value wanted written your_loader
"""
_RESERVED = frozenset(_NAMES.split())

_OWN_IMPORTS: Mapping[str, Import] = {
    "base64": ("base64", None, "base64"),
    "os": ("os", None, "os"),
    "Path": ("pathlib", "Path", "Path"),
    "nn": ("torch", "nn", "nn"),
    "tempfile": ("tempfile", None, "tempfile"),
    "threading": ("threading", None, "threading"),
    "zipfile": ("zipfile", None, "zipfile"),
    "lzma": ("lzma", None, "lzma"),
    "warnings": ("warnings", None, "warnings"),
    "torch": ("torch", None, "torch"),
}

# The recipes look for a state dict anywhere in a file, and build wherever they are told to.
_PLAIN_FILE = {
    ("pytest_ckptload.recipes.eager", "state_dict_in"): (
        "def state_dict_in(payload: object) -> object:\n"
        "    return payload  # the file holds the state dict and nothing else"
    )
}
_ON_CPU = {
    ("pytest_ckptload.recipes.eager", "built"): (
        "def built(build: Build, device: torch.device) -> nn.Module:\n"
        "    return build()  # the device is the CPU, and so is the default"
    )
}

_BITS = '''\
def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a tensor."""
    plain = tensor.detach().cpu().to_dense().resolve_conj().resolve_neg().flatten()
    return plain.clone(memory_format=torch.contiguous_format).view(torch.uint8)'''

# Rules about memory that nobody wrote to, or that was written to in part; a load may fail on it.
_POISONED = {"CKPT101", "CKPT102", "CKPT803"}


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

    ``findings`` are asserted in their order. ``dtype`` is the one the loader casts to, ``device``
    the one it loads on: the CPU, if left out. ``build`` is the factory of the user's own module,
    where the case has none. What can be neither quoted nor imported, a closure say, is left as a
    function to be filled in.
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
        self.given = build
        self.device = device
        # A user's own factory may well be called build.
        self.build = "build" if build is None or loader_name(build) != "build" else "fresh"
        reserved = _RESERVED - {"build"} | {self.build}
        instead = {} if case.checkpoint.payload else _PLAIN_FILE
        if device.type == "cpu":
            instead = {**instead, **_ON_CPU}
        self.quoter = Quoter(reserved, _OWN_IMPORTS.values(), instead)

    def text(self) -> str:
        """The whole program."""
        module = self._fresh()
        checkpoint = checkpoint_lines(self.case, module, self.build)
        # Our own comes first: where a user's function is called the same, that one is imported.
        if any("fill(" in line for line in checkpoint):
            self.quoter.quote(fill)
        blocks = self._factory()
        scene = Scene(self.case, module, self.dtype)
        asserted = assertion_lines(self.findings, scene)
        if any("bits(" in line for line in asserted):
            blocks.append(_BITS)
        call = self._call(blocks)
        poison = scene.fillable and not _POISONED.isdisjoint(f.code for f in self.findings)
        load = self._loads(call, asserted, poison)
        main = [*checkpoint, *self._file(module, asserted), *load, *asserted]
        body = "\n\n\n".join([*blocks, "\n".join(main)])
        own = {_OWN_IMPORTS[name] for name in names_in(body) & set(_OWN_IMPORTS)}
        imports = self.quoter.imports | own
        head = [self._title(imports), "from __future__ import annotations", imports_text(imports)]
        if self.quoter.constants:
            head.append("\n".join(self.quoter.constants))
        return "\n\n".join(head) + "\n\n\n" + body + "\n"

    def _title(self, imports: set[Import]) -> str:
        codes = dict.fromkeys(f"{f.code} {f.rule}" for f in self.findings)
        features = ", ".join(self.case.features)
        on = f"a case with {features}" if features else "a plain case"
        foreign = {module.partition(".")[0] for module, _, _ in imports} - sys.stdlib_module_names
        needs = " and ".join(["torch", *sorted(foreign - {"torch"})])
        said = [RULES[f.code].statement for f in self.findings[:1] if f.code in RULES]
        said.append(f"It needs {needs}, and ends in an error as long as that does not hold.")
        what = f"{', '.join(codes)}: " if codes else ""
        first = textwrap.fill(f"{what}{loader_name(self.loader)} on {on}.", _WIDTH)
        rest = textwrap.fill(" ".join(said), _WIDTH)
        return f'"""{first}\n\n{rest}\n"""'

    def _fresh(self) -> nn.Module | None:
        if self.case.module is not None:
            return self.case.build()
        if self.given is None:
            return None
        with seeded(self.case.seed):
            return self.given()

    def _factory(self) -> list[str]:
        """The definition of ``build`` after those that it takes."""
        try:
            spec = self.case.module
            body = self._given() if spec is None else module_lines(spec, self.quoter)
        except Unquotable:
            body = ['raise SystemExit("put your own module factory here")']
        else:
            body.insert(0, f"torch.manual_seed({self.case.seed})")
        inner = textwrap.indent("\n".join(body), "    ")
        return [*self.quoter.take(), f"def {self.build}() -> nn.Module:\n{inner}"]

    def _given(self) -> list[str]:
        if self.given is None:
            raise Unquotable("the factory is not known")
        return [f"return {self._called(self.given)}"]

    def _call(self, blocks: list[str]) -> str:
        """The call of the loader; the definitions that it takes are appended to ``blocks``."""
        arguments = [self.build, "path", literal(self.device)]
        try:
            call = self._called(self.loader, arguments)
        except Unquotable:
            blocks.append(
                "def your_loader(build, path, device):\n"
                '    raise SystemExit("put your loader here")'
            )
            call = f"your_loader({', '.join(arguments)})"
        blocks += self.quoter.take()
        return call

    def _called(self, function: Callable[..., Any], arguments: Sequence[str] = ()) -> str:
        """A call of ``function``. Raises ``Unquotable`` where it cannot be written down."""
        before: list[str] = []
        after: list[str] = []
        if isinstance(function, partial):
            before = [self._value(value) for value in function.args]
            after = [f"{name}={self._value(v)}" for name, v in function.keywords.items()]
            function = function.func
        return f"{self.quoter.quote(function)}({', '.join([*before, *arguments, *after])})"

    def _value(self, value: Any) -> str:
        return self.quoter.quote(value) if callable(value) else literal(value)

    def _file(self, module: nn.Module | None, asserted: Sequence[str]) -> Iterator[str]:
        yield ""
        yield "folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)"
        yield 'path = Path(folder.name, "checkpoint.pt")'
        yield from file_lines(self.case, module)
        if any("written" in _code(line) for line in asserted):
            yield "written = path.read_bytes()"

    def _loads(self, call: str, asserted: Sequence[str], poison: bool) -> Iterator[str]:
        codes = {finding.code for finding in self.findings}
        yield ""
        if poison:
            yield "# Has torch fill new memory with NaN, or with the greatest integer."
            yield "torch.use_deterministic_algorithms(True, warn_only=True)"
        if "CKPT803" in codes or any("expected" in _code(line) for line in asserted):
            yield from self._eager()
        if codes & {"CKPT804", "CKPT805"}:
            yield "# This should raise."
        elif "CKPT803" in codes:
            if category := self._warned():
                yield f'warnings.simplefilter("error", {category})  # as where this was found'
            yield "# This raises, and should not: loading eagerly did not."
        yield f"loaded = {call}"
        if poison:
            yield "torch.use_deterministic_algorithms(False)"

    def _warned(self) -> str | None:
        """The name of the category, where the error of the load is a warning that was raised."""
        failed = next(f for f in self.findings if f.code == "CKPT803")
        name = failed.evidence.partition(":")[0]
        kind = getattr(builtins, name, None)
        return name if isinstance(kind, type) and issubclass(kind, Warning) else None

    def _eager(self) -> Iterator[str]:
        spec = self.case.checkpoint
        place = "" if self.device.type == "cpu" else f".to({literal(self.device)})"
        where = literal(str(self.device))
        yield f"expected = {self.build}(){place}"
        if spec.prefix or spec.payload:
            yield "saved = state"
        else:
            yield f"saved = torch.load(path, map_location={where}, weights_only=True, mmap=False)"
        strict = ", strict=False" if spec.missing or spec.extra else ""
        yield f"expected.load_state_dict(saved{strict})"
        if self.dtype is not None:
            yield f"expected.to({self.dtype})"


def _code(line: str) -> str:
    return "" if line.startswith("#") else line
