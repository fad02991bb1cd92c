"""The stand-alone script: with torch alone it shows what was found, and what it quotes is whole.

Running each script in a process of its own would take two seconds of importing torch: all of them
run in one, each in a fresh namespace, where this package cannot be imported.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import functools
import importlib
import io
import json
import re
import subprocess
import sys
import textwrap
import warnings
import zipfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from mixtures import mixtures
from torch import nn

from pytest_ckptload.case import Case, CheckpointSpec, Damage, Edit, ModuleSpec, TensorSpec, View
from pytest_ckptload.contents import state_of, write
from pytest_ckptload.contents.file import FORMATS
from pytest_ckptload.contents.sparse import indices_of, values_of
from pytest_ckptload.damage import DAMAGES, damaged, describe
from pytest_ckptload.examine.pipeline import examine
from pytest_ckptload.examine.reference import Demands
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.faults import DEADLY, FAULTS, Fault
from pytest_ckptload.finding import Finding, Verdict
from pytest_ckptload.machine.dtypes import COMPLEX, LOW_PRECISION, ORDINARY, RARE, known
from pytest_ckptload.recipes import RECIPES, eager, mmap_meta_assign, mmap_stream
from pytest_ckptload.report.assertions import ASSERTIONS, WITHOUT
from pytest_ckptload.report.module_code import module_lines
from pytest_ckptload.report.quoting import Quoter, literal
from pytest_ckptload.report.script import script
from pytest_ckptload.report.sources import Unquotable, imports_text, names_in
from pytest_ckptload.rules import RULES
from pytest_ckptload.strategies import covering, random_cases
from pytest_ckptload.zoo.catalogue import CATALOGUE
from pytest_ckptload.zoo.feature import first
from pytest_ckptload.zoo.structure import structure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CPU = torch.device("cpu")
STRICT = frozenset({"strict", "robust", "formats"})

RUNNER = """
import json, sys, torch
sys.modules["pytest_ckptload"] = None
ends = {}
for name, text in json.loads(sys.stdin.read()).items():
    try:
        exec(compile(text, name, "exec"), {"__name__": "__main__"})
    except BaseException as error:
        ends[name] = f"{type(error).__name__}: {error}"
    else:
        ends[name] = "no error"
    torch.use_deterministic_algorithms(False)
    torch.set_default_dtype(torch.float32)
print(json.dumps(ends))
"""


def run(texts: dict[str, str], folder: Path) -> dict[str, str]:
    """How each script ends, run where there is torch and nothing of ours."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", RUNNER],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return ends


def run_here(text: str) -> dict[str, Any]:
    """The names of a script, or of its beginning, once it was run in this process."""
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        exec(text, names)
    finally:
        if "folder" in names:
            names["folder"].cleanup()
    return names


# --- loaders that break a rule in a way that none of the package's own faults does ---------------


def _read(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def adds_one(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    with torch.no_grad():
        next(module.parameters()).add_(1)
    return module


def from_empty(build: Any, path: Path, device: torch.device) -> nn.Module:
    with torch.device("meta"):
        module = build()
    module.to_empty(device=device)
    module.load_state_dict(_read(path), strict=False)
    return module


def halves(build: Any, path: Path, device: torch.device) -> nn.Module:
    return eager(build, path, device).half()


def doubles_buffers(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    for part in module.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = buffer.double()
    return module


def drops_attributes(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    del module.scale
    return module


def trains_buffers(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    for name in list(module._buffers):
        module._parameters[name] = nn.Parameter(module._buffers.pop(name))
    return module


def registers_attributes(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    scale = module.__dict__.pop("scale")
    module.register_buffer("scale", scale)
    return module


def trains_nothing(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    for name in list(module._parameters):
        module._buffers[name] = module._parameters.pop(name).detach()
    return module


def ties_all(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    module.second = module.first
    return module


def shares_memory(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    module.second = nn.Parameter(module.first.data)
    return module


def tears_views(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    module.tail = module.tail.clone()
    return module


def writes_back(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    path.write_bytes(b"read")
    return module


def changed(change: Callable[[torch.Tensor], torch.Tensor], module: nn.Module) -> nn.Module:
    """The module with the first parameter of each part replaced."""
    for part in module.modules():
        for name, old in list(part._parameters.items())[:1]:
            assert old is not None
            part._parameters[name] = nn.Parameter(change(old.detach()))
    return module


def adds_zero(build: Any, path: Path, device: torch.device) -> nn.Module:
    return changed(lambda tensor: tensor + 0.0, eager(build, path, device))


def flattens(build: Any, path: Path, device: torch.device) -> nn.Module:
    return changed(torch.flatten, eager(build, path, device))


def turns(build: Any, path: Path, device: torch.device) -> nn.Module:
    return changed(lambda tensor: tensor.t().contiguous().t(), eager(build, path, device))


def makes_buffers_sparse(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.dim():
                part._buffers[name] = buffer.to_sparse()
    return module


def loads_for_inference(build: Any, path: Path, device: torch.device) -> nn.Module:
    with torch.inference_mode():
        return eager(build, path, device)


def trains_all(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    for parameter in module.parameters():
        parameter.requires_grad = True
    return module


def turns_round(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    for name in reversed(list(module._parameters)):
        module._parameters[name] = module._parameters.pop(name)
    return module


def leaves_out_what_has_no_state(build: Any, path: Path, device: torch.device) -> nn.Module:
    module = eager(build, path, device)
    module[1] = nn.Identity()
    return module


def goes_by_tensors(build: Any, path: Path, device: torch.device) -> nn.Module:
    module, state = build().to(device), _read(path)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            tensor.copy_(state[name])
    return module


def evaluates(build: Any, path: Path, device: torch.device) -> nn.Module:
    return eager(build, path, device).eval()


def takes_damage_for_nothing(build: Any, path: Path, device: torch.device) -> nn.Module:
    try:
        return eager(build, path, device)
    except Exception:
        return build()


def returns_none(build: Any, path: Path, device: torch.device) -> nn.Module | None:
    eager(build, path, device)
    return None


# --- modules of users' own ----------------------------------------------------------------------


class Twins(nn.Module):
    """Two parameters that are independent of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.ones(2))
        self.second = nn.Parameter(torch.ones(2))


def active() -> nn.Module:
    """A layer with a state, and one without."""
    return nn.Sequential(nn.Linear(1, 1), nn.ReLU())


class Window(nn.Module):
    """A buffer that is a view of a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("tail", self.weight.data[2:])


class Wide(nn.Module):
    """Tensors of more numbers than anybody wants to read, a tie, a name of no use as one."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(3)])
        self.layers[2].weight = self.layers[0].weight
        self.register_parameter("0", nn.Parameter(torch.ones(3)))
        self.register_buffer("mask", torch.ones(1, dtype=torch.bool))


def build() -> nn.Module:
    """A factory of the name that the script would give it."""
    return Wide()


LINEAR = ModuleSpec("Linear", {"in_features": 2, "out_features": 2})


@dataclass
class Expected:
    """A loader, a case to run it on, and the rule that it breaks there."""

    code: str
    loader: Callable[..., Any]
    case: Case
    make: Callable[[], nn.Module] | None = None
    dtype: torch.dtype | None = None

    def findings(self) -> list[Finding]:
        subject = None if self.make is None else Subject(self.make)
        demands = Demands(STRICT, dtype=self.dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some loaders are warned that they load nothing
            found = examine(self.case, self.loader, CPU, demands, subject).findings
        return [finding for finding in found if finding.code == self.code]

    def text(self, loader: Callable[..., Any] | None = None) -> str:
        return script(
            self.case,
            self.findings(),
            loader or self.loader,
            dtype=self.dtype,
            build=self.make,
        )


def with_feature(name: str) -> Case:
    return next(case for case in covering() if case.features == (name,))


def plain(**tensor: Any) -> Case:
    return Case(LINEAR, CheckpointSpec({"weight": TensorSpec(**tensor)}))


BROKEN = [
    Expected("CKPT101", adds_one, plain()),
    Expected("CKPT101", adds_one, Case(), Wide),
    Expected("CKPT101", adds_one, plain(dtype="float64")),
    Expected("CKPT101", adds_one, plain(), dtype=torch.bfloat16),
    Expected("CKPT102", from_empty, with_feature("buffer-nonpersistent")),
    Expected("CKPT102", from_empty, with_feature("missing-key")),
    Expected("CKPT102", from_empty, Case(checkpoint=CheckpointSpec(missing=("0",))), Wide),
    Expected("CKPT201", halves, plain()),
    Expected("CKPT201", halves, plain(), dtype=torch.bfloat16),
    Expected("CKPT201", doubles_buffers, with_feature("buffer-nonpersistent")),
    Expected("CKPT103", adds_zero, plain(values=((0, "negative-zero"),))),
    Expected("CKPT202", flattens, plain()),
    Expected("CKPT203", turns, plain()),
    Expected("CKPT204", makes_buffers_sparse, with_feature("buffer-computed")),
    Expected("CKPT206", trains_all, with_feature("frozen")),
    Expected("CKPT207", mmap_meta_assign, with_feature("parameter-subclass")),
    Expected("CKPT208", mmap_meta_assign, with_feature("parameter-attributes")),
    Expected("CKPT209", mmap_meta_assign, with_feature("conj-neg")),
    Expected("CKPT210", loads_for_inference, plain()),
    Expected("CKPT301", drops_attributes, with_feature("plain-attribute")),
    Expected("CKPT303", mmap_meta_assign, with_feature("plain-attribute")),
    Expected("CKPT304", trains_buffers, with_feature("buffer-computed")),
    Expected("CKPT304", registers_attributes, with_feature("plain-attribute")),
    Expected("CKPT304", trains_nothing, plain()),
    Expected("CKPT305", turns_round, plain()),
    Expected("CKPT306", leaves_out_what_has_no_state, Case(), active),
    Expected("CKPT307", evaluates, plain()),
    Expected("CKPT308", goes_by_tensors, with_feature("extra-state")),
    Expected("CKPT309", mmap_meta_assign, with_feature("parameter-hooks")),
    Expected("CKPT401", mmap_meta_assign, with_feature("tied")),
    Expected("CKPT401", tears_views, Case(), Window),
    Expected("CKPT401", mmap_meta_assign, Case(), build),
    Expected("CKPT402", mmap_meta_assign, with_feature("views")),
    Expected("CKPT402", ties_all, Case(), Twins),
    Expected("CKPT402", shares_memory, Case(), Twins),
    Expected("CKPT701", writes_back, plain()),
    Expected("CKPT805", takes_damage_for_nothing, with_feature("damaged")),
    Expected("CKPT807", returns_none, plain()),
]

# Those that a script can quote, and that its loader alone breaks; the deadly end whatever runs
# them: the first of them has a test of its own in test_worker.py.
LOADER_FAULTS = [
    fault
    for fault in FAULTS.values()
    if not (fault.training or fault.elsewhere or fault.given or fault.broken.__closure__)
    and fault.name != "looks_at_it_afterwards"  # runs the code, and then raises all the same
    and fault.code not in {*DEADLY, *WITHOUT}
]


def shown_by(fault: Fault) -> Expected:
    """The first of the covering cases that shows the fault."""
    found = (
        Expected(fault.code, fault.broken, case)
        for case in covering(features=fault.features or None, without=fault.beyond)
    )
    return next(expected for expected in found if expected.findings())


def wanted_end(findings: Sequence[Finding]) -> str:
    """The error at the end of a script: that of the load, or of the step, where one fails."""
    first = findings[0]
    failed = first.code == "CKPT803" or first.place == "the step"
    return first.evidence.partition(":")[0] if failed else "AssertionError"


def failing(verdict: Verdict) -> tuple[Finding, ...]:
    """What a script is written of: advice fails nothing, and some rules no short line can check."""
    return tuple(f for f in verdict.findings if not f.advice and f.code not in WITHOUT)


@pytest.fixture(scope="module")
def covered() -> dict[str, tuple[Case, str, tuple[Finding, ...]]]:
    """Every covering case with one feature on which a fast recipe has findings."""
    found = {}
    single = (case for case in covering() if len(case.features) == 1)
    # Each third, for the sake of time.
    for number, case in islice(enumerate(single), 0, None, 3):
        for name in ("mmap_meta_assign", "mmap_meta_swap", "mmap_stream"):
            recipe = RECIPES[name]
            dtype = torch.bfloat16 if recipe is mmap_stream else None
            findings = failing(examine(case, recipe, CPU, Demands(STRICT, dtype=dtype)))
            if findings:
                found[f"{number} {name}"] = (case, name, findings)
    return found


@pytest.fixture(scope="module")
def texts(covered: dict[str, tuple[Case, str, tuple[Finding, ...]]]) -> dict[str, str]:
    """Every script that the tests below look at, by a name for it."""
    made = {}
    for key, (case, name, findings) in covered.items():
        dtype = torch.bfloat16 if name == "mmap_stream" else None
        made[key] = script(case, findings, RECIPES[name], dtype=dtype)
        made[f"{key} eager"] = script(case, findings, _eager(dtype), dtype=dtype)
    for number, expected in enumerate(BROKEN):
        made[f"one {number}"] = expected.text()
        strict = not expected.case.checkpoint.missing
        made[f"one {number} eager"] = expected.text(_eager(expected.dtype, strict=strict))
    for fault in LOADER_FAULTS:
        expected = shown_by(fault)
        made[f"fault {fault.name}"] = expected.text()
        made[f"sibling of {fault.name}"] = expected.text(fault.sibling)
    return made


@pytest.fixture(scope="module")
def ends(texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """How each of them ends."""
    return run(texts, tmp_path_factory.mktemp("scripts"))


def _eager(dtype: torch.dtype | None, *, strict: bool = True) -> Callable[..., nn.Module]:
    return functools.partial(eager, strict=strict, dtype=dtype)


def test_recipes_fail_in_their_scripts(
    covered: dict[str, Any], texts: dict[str, str], ends: dict[str, str]
) -> None:
    assert len(covered) > 20
    for key, (case, name, findings) in covered.items():
        assert ends[key].startswith(wanted_end(findings)), f"{name}: {ends[key]}\n{texts[key]}"
        end = ends[f"{key} eager"]
        # What is found on damaged files is that they load: eagerly they do not.
        assert (end == "no error") == (case.checkpoint.damage is None), texts[f"{key} eager"]
        assert not end.startswith("AssertionError"), texts[f"{key} eager"]


@pytest.mark.parametrize(
    "number", range(len(BROKEN)), ids=lambda n: f"{n}-{BROKEN[n].loader.__name__}"
)
def test_broken_loaders_fail_in_their_scripts(
    number: int, texts: dict[str, str], ends: dict[str, str]
) -> None:
    findings = BROKEN[number].findings()
    assert findings, "nothing is found, so there is nothing to show"
    text, name = texts[f"one {number}"], f"one {number}"
    assert "your_loader" not in text
    assert ends[name].startswith(wanted_end(findings)), f"{ends[name]}\n{text}"
    # What is found on damaged files is that they load: eagerly they do not.
    damaged = BROKEN[number].case.checkpoint.damage is not None
    assert (ends[f"{name} eager"] == "no error") != damaged, texts[f"{name} eager"]


@pytest.mark.parametrize("fault", LOADER_FAULTS, ids=lambda fault: f"{fault.code}-{fault.name}")
def test_faults_fail_in_their_scripts_and_siblings_do_not(
    fault: Fault, texts: dict[str, str], ends: dict[str, str]
) -> None:
    end = ends[f"fault {fault.name}"]
    # A loader that raises ends a script in its own error.
    shown = end.startswith("AssertionError") != (fault.code == "CKPT803")
    assert shown, f"{end}\n{texts[f'fault {fault.name}']}"
    assert end != "no error"
    # A loader that refuses a file ends a script in the error that it refuses it with.
    refuses = fault.code in ("CKPT804", "CKPT805", "CKPT806")
    end = ends[f"sibling of {fault.name}"]
    assert refuses != (end == "no error"), f"{end}\n{texts[f'sibling of {fault.name}']}"
    assert not end.startswith("AssertionError")


def test_a_load_that_fails_on_unwritten_memory_fails_in_its_script(texts: dict[str, str]) -> None:
    # What stands there by chance may be valid, but not the greatest integer.
    assert "use_deterministic_algorithms(True" in texts["fault checks_before_it_reads"]


def _warns(build: Callable[[], nn.Module], path: Path, device: torch.device) -> nn.Module:
    warnings.warn("this format will change", FutureWarning, stacklevel=1)
    return eager(build, path, device)


def test_a_warning_that_was_raised_is_raised_in_the_script(tmp_path: Path) -> None:
    case = plain()
    (finding,) = examine(case, _warns, CPU, Demands()).findings
    loaders = {"warns": _warns, "sibling": eager}
    ends = run({k: script(case, [finding], loader) for k, loader in loaders.items()}, tmp_path)
    assert ends["warns"].startswith("FutureWarning")
    assert ends["sibling"] == "no error"


def test_every_rule_has_an_assertion_or_a_reason_for_none() -> None:
    assert ASSERTIONS.keys() | WITHOUT.keys() == RULES.keys()
    assert not ASSERTIONS.keys() & WITHOUT.keys()
    assert all(WITHOUT.values())


def test_every_assertion_was_run_or_cannot_be_on_one_device() -> None:
    shown = {expected.code for expected in BROKEN} | {fault.code for fault in LOADER_FAULTS}
    # A step that differs alone is made up below.
    alone = {"CKPT205", "CKPT502", "CKPT503", "CKPT508"}
    assert ASSERTIONS.keys() - shown == alone | set(DEADLY)


@pytest.mark.parametrize("code", ["CKPT205", "CKPT502", "CKPT503", "CKPT501", "CKPT999"])
def test_findings_that_nothing_here_can_have(code: str) -> None:
    finding = Finding(code, "some-rule", "weight", "evidence", "cause", "fix", ("weight",))
    text = script(plain(), [finding], eager)
    if code in ASSERTIONS:
        run_here(text)
    else:
        with pytest.raises(AssertionError, match=f"{code} some-rule: "):
            run_here(text)


def test_a_step_that_goes_elsewhere_is_shown() -> None:
    finding = Finding("CKPT508", "step-differs", "first", "evidence", "cause", "fix", ("first",))
    run_here(script(Case(), [finding], eager, build=Twins))
    with pytest.raises(AssertionError):
        run_here(script(Case(), [finding], shares_memory, build=Twins))


def test_what_was_asked_for_decides_between_file_and_module() -> None:
    case = plain(dtype="float64")
    for semantics, wrong, right in (
        ("assign", eager, mmap_meta_assign),
        ("copy", mmap_meta_assign, eager),
    ):
        findings = failing(examine(case, wrong, CPU, Demands(semantics=semantics)))
        assert {finding.code for finding in findings} == {"CKPT201"}
        run_here(script(case, findings, right))
        with pytest.raises(AssertionError):
            run_here(script(case, findings, wrong))


def test_a_tied_name_has_its_own_value_or_is_tied() -> None:
    case = Case(with_feature("tied").module, CheckpointSpec(ties="differ"))
    finding = Finding("CKPT101", "bits-differ", "weight", "evidence", "", "", ("weight",))
    for right in (eager, mmap_meta_assign):
        run_here(script(case, [finding], right))
    with pytest.raises(AssertionError):
        run_here(script(case, [finding], adds_one))


def test_scripts_are_short_and_whole(texts: dict[str, str], covered: dict[str, Any]) -> None:
    for key, text in texts.items():
        # With it annotations are no code, and names in them would not count.
        text = text.replace("from __future__ import annotations\n", "")
        assert not _undefined(text), text
        assert not _imported(text) - names_in(text), text
        if key in covered:
            # A file that is given as bytes is no reading.
            lines = [line for line in text.splitlines() if not line.startswith('    "')]
            assert len(lines) <= 85, text
            assert max(map(len, text.splitlines())) <= 100, text


def _undefined(text: str) -> set[str]:
    bound = {"__name__", "__file__"} | set(dir(builtins))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    return names_in(text) - bound - _imported(text)


def _imported(text: str) -> set[str]:
    return {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.parse(text).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


# --- the checkpoint -----------------------------------------------------------------------------


def assert_same_checkpoint(case: Case, make: Callable[[], nn.Module] | None = None) -> None:
    """The script makes the checkpoint that the pipeline does: names, bytes, strides and views."""
    subject = Subject.of(case) if make is None else Subject(make, case.seed)
    module = subject.build()
    wanted = state_of(module, structure_of(module), case.checkpoint)
    text = script(case, [], eager, build=make)
    made = run_here(text.partition("\nfolder =")[0])["state"]
    assert list(made) == list(wanted), text
    assert getattr(made, "_metadata", None) == getattr(wanted, "_metadata", None), text
    for name, tensor in wanted.items():
        if isinstance(tensor, torch.Tensor):
            assert _facts(made, name) == _facts(wanted, name), text


def _facts(state: dict[Any, torch.Tensor], name: Any) -> tuple[object, ...]:
    tensor = state[name]
    if tensor.layout != torch.strided:
        parts = dict(enumerate((*indices_of(tensor), values_of(tensor))))
        return tensor.layout, tensor.shape, *(_facts(parts, part) for part in parts)
    flat = tensor.detach().resolve_conj().resolve_neg().flatten()
    data = flat.clone(memory_format=torch.contiguous_format).view(torch.uint8).tolist()
    storage = tensor.untyped_storage()._cdata
    sharing = [
        other
        for other, t in state.items()
        if isinstance(t, torch.Tensor)
        and t.layout == torch.strided
        and t.untyped_storage()._cdata == storage
    ]
    kind = type(tensor), tensor.requires_grad, tensor.is_conj(), tensor.is_neg()
    return kind, tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset(), sharing, data


DTYPES = known((*ORDINARY, *LOW_PRECISION, *COMPLEX, *RARE))


def test_covering_checkpoints_are_the_same() -> None:
    for case in covering():
        assert_same_checkpoint(case)


WRITTEN = [
    *(CheckpointSpec(format=name) for name in FORMATS),
    CheckpointSpec(device="cuda:1"),
    CheckpointSpec(prefix="module.", order="reversed"),
    CheckpointSpec(payload="state_dict", metadata=False),
    CheckpointSpec(prefix="model.", payload="model", device="mps", format="legacy"),
]


@pytest.mark.parametrize("spec", WRITTEN, ids=repr)
def test_the_file_is_the_same(spec: CheckpointSpec, tmp_path: Path) -> None:
    case = Case(LINEAR, spec)
    subject = Subject.of(case)
    path = tmp_path / "checkpoint.pt"
    write(state_of(subject.fresh, subject.structure, spec), path, spec)
    text = script(case, [], eager)
    text = text.partition("\nloaded =")[0] + "\ndata = path.read_bytes()\n"
    made = run_here(text)["data"]
    if spec.format == "deflated":
        # The archive's own times are those of its writing.
        made, wanted = zipfile.ZipFile(io.BytesIO(made)), zipfile.ZipFile(path)
        assert [(i.filename, i.compress_type, i.CRC) for i in made.infolist()] == [
            (i.filename, i.compress_type, i.CRC) for i in wanted.infolist()
        ]
    elif spec.format == "legacy":
        assert len(made) == path.stat().st_size  # it holds addresses
    else:
        assert made == path.read_bytes()


@given(random_cases())
@settings(deadline=None, max_examples=60, database=None)
def test_random_checkpoints_are_the_same(case: Case) -> None:
    assert_same_checkpoint(case)


@pytest.mark.parametrize(
    "spec",
    [
        CheckpointSpec(),
        CheckpointSpec(ties="separate"),
        CheckpointSpec(ties="differ"),
        CheckpointSpec(views=(View(("layers.0.bias", "layers.1.weight"), 3),)),
        CheckpointSpec(views=(View(("0", "layers.1.bias")),), missing=("mask",)),
        CheckpointSpec(
            {
                "layers.1.weight": TensorSpec(values=((7, "negative-zero"), (9, "nan-payload"))),
                "layers.1.bias": TensorSpec("bfloat16", values=((0, "infinity"),)),
                "0": TensorSpec(shape=(2, 2)),
            },
            extra={"extra": TensorSpec(shape=(2,))},
        ),
    ],
)
def test_checkpoints_of_given_modules_are_the_same(spec: CheckpointSpec) -> None:
    assert_same_checkpoint(Case(checkpoint=spec), build)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back(name: str) -> None:
    case = Case(LINEAR, CheckpointSpec({"weight": TensorSpec(name)}))
    assert_same_checkpoint(case)
    wide = ModuleSpec("Linear", {"in_features": 9, "out_features": 9})
    assert_same_checkpoint(Case(wide, CheckpointSpec({"weight": TensorSpec(name)})))


SPECIAL = [kind for kind in DAMAGES if DAMAGES[kind].replace is not None]
ALTERED = [kind for kind in DAMAGES if DAMAGES[kind].alter is not None]


def assert_same_damage(
    case: Case, folder: Path, make: Callable[[], nn.Module] | None = None
) -> str:
    """The script makes the file that the pipeline does. The answer is its text."""
    damage = case.checkpoint.damage
    assert damage is not None
    subject = Subject.of(case) if make is None else Subject(make, case.seed)
    path = folder / "checkpoint.pt"
    write(state_of(subject.fresh, subject.structure, case.checkpoint), path)
    text = script(case, [], eager, build=make)
    with damaged(path, damage):
        done = run_here(text.partition("\nloaded =")[0] + "\nwritten = path.read_bytes()")
        assert done["written"] == path.read_bytes()
    assert max(map(len, text.splitlines())) <= 100
    return text


@pytest.mark.parametrize("kind", ALTERED)
def test_damage_is_the_same(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPTLOAD_MARK", "put back afterwards")
    text = assert_same_damage(Case(LINEAR, CheckpointSpec(damage=Damage(kind, 0.25))), tmp_path)
    assert len(text.splitlines()) <= 80
    assert ("CKPTLOAD_MARK" in text) == DAMAGES[kind].hostile


def test_one_bit_of_a_large_file_is_a_line(tmp_path: Path) -> None:
    large = Case(checkpoint=CheckpointSpec(damage=Damage("data", 0.25)))
    text = assert_same_damage(large, tmp_path, lambda: nn.Linear(60, 60))
    assert "] ^= 0x01" in text


def test_what_is_too_large_to_be_text_is_asked_for() -> None:
    damage = Damage("archive-before")
    case = Case(checkpoint=CheckpointSpec(damage=damage))
    for make in (None, lambda: nn.Linear(60, 60)):
        text = script(case, [], eager, build=make)
        assert f"the file was {describe(damage)}" in text
        if make is not None:
            with pytest.raises(SystemExit, match=r"now damage .*: the file was put"):
                run_here(text)


def test_what_is_no_file_stands_in_the_path(tmp_path: Path) -> None:
    finding = Finding("CKPT805", "damage-accepted", "the load", "evidence", "", "")
    refusals = ("IsADirectoryError", "OSError", "UnpicklingError")
    texts = {
        f"{kind} {loader.__name__}": script(
            Case(LINEAR, CheckpointSpec(damage=Damage(kind))), [finding], loader
        )
        for kind in SPECIAL
        for loader in (eager, _shrugs)
    }
    ends = run(texts, tmp_path)
    for kind in SPECIAL:
        assert ends[f"{kind} _shrugs"].startswith("AssertionError"), texts[f"{kind} _shrugs"]
        assert ends[f"{kind} eager"].partition(":")[0] in refusals, kind


def _shrugs(build: Any, path: Path, device: torch.device) -> nn.Module:
    return build()  # type: ignore[no-any-return]


def _trusts(build: Any, path: Path, device: torch.device) -> nn.Module:
    module: nn.Module = build()
    module.load_state_dict(torch.load(path, map_location=device, weights_only=False, mmap=False))
    return module


def test_scripts_of_hostile_files_show_the_mark(tmp_path: Path) -> None:
    case = Case(LINEAR, CheckpointSpec(damage=Damage("hostile-exec")))
    texts = {loader.__name__: script(case, [], loader) for loader in (_trusts, eager)}
    assertion = '\nassert not mark.exists(), "it ran"\n'
    ends = run({name: text + assertion for name, text in texts.items()}, tmp_path)
    assert ends["_trusts"] == "AssertionError: it ran"
    assert ends["eager"].startswith("UnpicklingError")
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_a_hundred_thousand_characters_is_short() -> None:
    case = Case(LINEAR, CheckpointSpec(extra={"x" * 10**5: TensorSpec(shape=(2,))}))
    assert_same_checkpoint(case)
    text = script(case, [], eager)
    assert 'state["x" * 100000] = ' in text
    assert max(map(len, text.splitlines())) <= 100


# --- the module ---------------------------------------------------------------------------------

NESTED = ModuleSpec(
    "Sequential",
    children={
        "0": ModuleSpec(
            "ModuleDict",
            children={
                "a": ModuleSpec(
                    "Linear", {"in_features": 2, "out_features": 2, "dtype": "float64"}
                ),
                "b": ModuleSpec(
                    "ModuleList",
                    children={"0": LINEAR, "1": LINEAR},
                    edits=(Edit("freeze", {"name": "1.weight"}),),
                ),
            },
        ),
        "1": ModuleSpec("Empty", {"shape": (2, 0)}),
    },
    edits=(Edit("share", {"source": "0.a", "name": "again"}),),
)


def test_nested_modules_are_built_by_calls() -> None:
    text = script(Case(NESTED, seed=3), [], eager)
    built = run_here(text.partition("\nstate =")[0])["build"]()
    wanted = Case(NESTED, seed=3).build()
    assert str(built) == str(wanted)
    assert_same_modules(built, wanted)
    assert (
        textwrap.dedent(
            """
        def build() -> nn.Module:
            torch.manual_seed(3)
            module = nn.Sequential(
                nn.ModuleDict({
        """
        ).strip()
        in text
    )
    assert 'freeze(module[0]["b"], name="1.weight")' in text


@pytest.mark.parametrize(
    "name", ["TransformerEncoder", "TransformerDecoder", "NLLLoss", "BCEWithLogitsLoss"]
)
def test_arguments_that_are_modules_or_tensors_are_built_by_calls(name: str) -> None:
    for spec in mixtures(CATALOGUE[name]):
        for module in (spec, ModuleSpec("ModuleDict", children={"a": spec})):
            text = script(Case(module, seed=3), [], eager)
            built = run_here(text.partition("\nstate =")[0])["build"]()
            assert_same_modules(built, Case(module, seed=3).build())
            assert max(map(len, text.splitlines())) <= 100


def test_what_is_changed_before_it_is_given_to_a_class_has_no_source() -> None:
    (layer,) = CATALOGUE["TransformerEncoder"].spec(first).children.values()
    frozen = dataclasses.replace(layer, edits=(Edit("freeze", {"name": "linear1.weight"}),))
    spec = ModuleSpec("TransformerEncoder", {"num_layers": 1}, {"encoder_layer": frozen})
    with pytest.raises(Unquotable, match="where TransformerEncoder keeps its encoder_layer"):
        module_lines(spec, Quoter())
    assert module_lines(ModuleSpec("Sequential", children={"0": frozen}), Quoter())


def assert_same_modules(built: nn.Module, wanted: nn.Module) -> None:
    left, right = built.state_dict(keep_vars=True), wanted.state_dict(keep_vars=True)
    assert list(left) == list(right)
    for name, tensor in right.items():
        assert torch.equal(left[name], tensor)
        assert left[name].requires_grad == tensor.requires_grad


# --- the source of loaders and factories ---------------------------------------------------------

SHOP = """
from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import torch
import torch.nn as nn
from {package}beside import MORE

if TYPE_CHECKING:
    from nowhere import Nothing

SCALE = 2.0
SCALES = {{"cpu": SCALE}}
UNUSED = math.tau


def unused() -> float:
    return math.e


def logged(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)

    return inner


def even(number: int, nothing: Nothing | None = None) -> bool:
    return number == 0 or odd(number - 1)


def odd(number: int) -> bool:
    return number != 0 and even(number - 1)


@logged
def load(build, path, device):
    assert even(2) and MORE and SCALES[device.type]
    module: nn.Module = build()
    module.load_state_dict(torch.load(path, map_location=device, weights_only=True))
    return module


def tie(build, path, device):
    return load(build, path, device)


def state(build, path, device):
    return load(build, path, device)


def local(build, path, device):
    from {package}beside import MORE

    assert MORE
    return load(build, path, device)


short = lambda build, path, device: load(build, path, device)


def factory(scale):
    def plain(build, path, device):
        return load(build, path, device)

    def closure(build, path, device):
        assert scale
        return load(build, path, device)

    return plain, closure, lambda build, path, device: load(build, path, device)


class Loader:
    @classmethod
    def load(cls, build, path, device):
        return load(build, path, device)

    def __call__(self, build, path, device):
        return load(build, path, device)


instance = Loader()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))


def long(build, path, device):
    module = load(build, path, device)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A user's package, and the module in it that has loaders."""
    package = tmp_path / "shop_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "beside.py").write_text("MORE = 1\n")
    filler = "    module.train(module.training)\n" * 200
    text = SHOP.format(package=".") + filler + "    return module\n"
    (package / "shop.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield importlib.import_module("shop_package.shop")
    for name in set(sys.modules) - before:
        if name.startswith("shop_package"):
            del sys.modules[name]


def quoted(loader: Any, case: Case | None = None, **more: Any) -> str:
    """The script for a loader that does its job, run."""
    text = script(case or plain(), [], loader, **more)
    run_here(text)
    return text


def test_a_function_comes_with_all_that_it_needs_and_no_more(shop: Any) -> None:
    text = quoted(shop.load)
    for definition in ("def even(", "def odd(", "def logged(", "SCALES = ", "SCALE = 2.0"):
        assert text.count(definition) == 1
    assert "@logged\ndef load(build, path, device):" in text
    assert "from shop_package.beside import MORE" in text
    assert "import functools\n" in text
    assert "It needs torch and shop_package" in text
    for other in ("unused", "UNUSED", "math", "nowhere", "TYPE_CHECKING"):
        assert f"def {other}" not in text
        assert f"import {other}" not in text
    assert text.index("def logged") < text.index("@logged")
    assert text.index("SCALE =") < text.index("SCALES =")
    assert not re.search(r"^from torch import nn\nfrom torch import nn", text, re.MULTILINE)


def test_lambdas_and_inner_functions_without_a_closure_are_quoted(shop: Any) -> None:
    inner, _, nameless = shop.factory(2.0)
    assert "    def plain" not in quoted(inner)
    assert "\ndef plain(build, path, device):\n    return load(" in quoted(inner)
    assert "(lambda build, path, device: load(build, path, device))(build, path," in quoted(
        nameless
    )
    assert "\nshort = lambda build" in quoted(shop.short)


def test_methods_and_instances_are_quoted_with_their_class(shop: Any) -> None:
    assert "loaded = Loader.load(build, path," in quoted(shop.Loader.load)
    text = quoted(shop.instance)
    assert "instance = Loader()" in text
    assert "loaded = instance(build, path," in text


@pytest.mark.parametrize("name", ["long", "local"])
def test_what_does_not_run_alone_is_imported(shop: Any, name: str) -> None:
    text = quoted(getattr(shop, name))
    assert f"from shop_package.shop import {name}\n" in text
    assert "def even" not in text


def test_names_that_stand_for_two_things_are_not_mixed_up(shop: Any) -> None:
    assert "def tie(build, path, device)" in quoted(shop.tie)
    # With a tied case the zoo's own tie is in the script.
    tied = next(c for c in covering(features=["tied"]) if c.module and c.module.edits)
    text = script(tied, [], shop.tie)
    assert "def tie(module" in text
    assert "def your_loader" in text
    assert "def your_loader" in script(plain(), [], shop.state)


def test_what_has_no_source_is_left_to_be_filled_in(shop: Any) -> None:
    names: dict[str, Any] = {"__name__": "somewhere"}
    exec("def made(build, path, device): pass", names)
    _, closure, _ = shop.factory(2.0)
    for loader in (closure, names["made"], shop.Loader(), functools.partial(shop.load, object())):
        text = script(plain(), [], loader)
        with pytest.raises(SystemExit, match="put your loader here"):
            run_here(text)


def test_partial_arguments_are_written_down() -> None:
    loader = functools.partial(mmap_stream, dtype=torch.float64)
    text = quoted(loader, dtype=torch.float64)
    assert 'mmap_stream(build, path, torch.device("cpu"), dtype=torch.float64)' in text
    assert "expected" not in text


def test_values_are_written_as_source() -> None:
    for value in (1, 2.5, None, True, "it's", 'a "word"', b"x", (1,), (), [1, (2, 3)], {"a": [1]}):
        assert eval(literal(value)) == value
    assert literal(torch.float16) == "torch.float16"
    assert literal(torch.device("cpu")) == 'torch.device("cpu")'
    with pytest.raises(Unquotable):
        literal(object())


def test_a_factory_is_quoted_imported_or_left_to_be_filled_in(shop: Any) -> None:
    case = Case()
    assert "    torch.manual_seed(0)\n    return Net()" in quoted(shop.load, case, build=shop.Net)
    text = quoted(shop.load, case, build=lambda: nn.Linear(3, 1))
    assert "return (lambda: nn.Linear(3, 1))()" in text
    text = quoted(shop.load, case, build=functools.partial(nn.Linear, 2, out_features=1))
    assert "return nn.Linear(2, out_features=1)" in text
    # The script calls its own factory build, unless a user's has that name.
    text = quoted(shop.load, case, build=build)
    assert "def fresh() -> nn.Module:\n    torch.manual_seed(0)\n    return build()" in text
    size = 3
    text = script(case, [], shop.load, build=lambda: nn.Linear(size, 1))
    assert "fill" in text
    with pytest.raises(SystemExit, match="put your own module factory here"):
        run_here(text)


def test_without_the_factory_the_script_says_what_is_to_be_done() -> None:
    case = Case(checkpoint=CheckpointSpec(missing=("weight",)))
    text = script(case, [], eager)
    assert "# Now make it like this: CheckpointSpec(missing=('weight',))" in text
    with pytest.raises(SystemExit, match="put your own module factory here"):
        run_here(text)
    filled_in = text.replace(
        'raise SystemExit("put your own module factory here")', "return nn.PReLU()"
    )
    run_here(filled_in)


def test_imports_are_in_their_usual_order() -> None:
    imports: set[Any] = {
        ("torch", "nn", "nn"),
        ("torch", None, "torch"),
        ("os.path", None, "os"),
        ("numpy", None, "np"),
        ("pathlib", "Path", "Path"),
        ("pathlib", "PurePath", "Pure"),
    }
    assert imports_text(imports).splitlines() == [
        "import os.path",
        "from pathlib import Path, PurePath as Pure",
        "",
        "import numpy as np",
        "import torch",
        "from torch import nn",
    ]


def test_quoting_is_all_or_nothing(shop: Any) -> None:
    quoter = Quoter(reserved=["odd"])
    with pytest.raises(Unquotable):
        quoter.quote(functools.partial(shop.load))
    assert quoter.quote(shop.load) == "load"
    assert quoter.take() == []
    assert quoter.imports == {("shop_package.shop", "load", "load")}
