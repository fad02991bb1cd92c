"""Every dtype of torch is generated, with all values that loaders lose in it, or left out for a
reason that holds.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from pytest_ckptload.case import Case, CheckpointSpec, ModuleSpec, TensorSpec
from pytest_ckptload.contents import FORMS, fill, state_of, value_kinds
from pytest_ckptload.contents.values import put
from pytest_ckptload.examine.pipeline import examine
from pytest_ckptload.examine.reference import Demands
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.machine.dtypes import (
    COMPLEX,
    LEFT_OUT,
    LOW_PRECISION,
    ORDINARY,
    PACKED,
    PARTS,
    RARE,
    known,
    named,
)
from pytest_ckptload.observe.tensors import first_difference, is_poison
from pytest_ckptload.recipes import RECIPES, eager, mmap_meta_assign, mmap_stream
from pytest_ckptload.report.checkpoint_code import checkpoint_lines
from pytest_ckptload.strategies import covering
from pytest_ckptload.zoo.structure import structure_of

CPU = torch.device("cpu")
GROUPS = (ORDINARY, LOW_PRECISION, COMPLEX, RARE)
NAMES = known(name for group in GROUPS for name in group)
FEATURES = ("low-precision", "complex", "rare-dtype", "integer-parameters")

each_dtype = pytest.mark.parametrize("dtype", [named(name) for name in NAMES], ids=NAMES)


def codes(case, loader, subject=None, **demands):
    found = examine(case, loader, CPU, Demands(**demands), subject).findings
    return [finding.code for finding in found if not finding.advice]


def raw(tensor):
    return tensor.reshape(-1).view(torch.uint8).tolist()


# --- the table


def test_every_dtype_is_generated_or_left_out():
    listed = [*NAMES, *known(LEFT_OUT)]
    assert len(listed) == len(set(listed))
    installed = {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    assert {getattr(torch, name) for name in listed} == installed


@each_dtype
def test_what_is_generated_can_be_saved_and_comes_back(dtype, tmp_path):
    tensor = fill((3,), dtype, 0)
    torch.save(tensor, tmp_path / "t.pt")
    for mmap in (False, True):
        back = torch.load(tmp_path / "t.pt", weights_only=True, mmap=mmap)
        assert back.dtype == dtype
        assert raw(back) == raw(tensor)


@pytest.mark.parametrize("name", [n for n in known(LEFT_OUT) if n.strip("u").startswith("int")])
def test_torch_refuses_to_save_what_is_left_out(name, tmp_path):
    tensor = torch.zeros(4, dtype=torch.uint8).view(getattr(torch, name))
    with pytest.raises(KeyError, match="is not recognized"):
        torch.save(tensor, tmp_path / "t.pt")


@pytest.mark.skipif(not hasattr(torch, "bcomplex32"), reason="torch has it since 2.14")
def test_torch_cannot_fill_what_it_has_for_a_try():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of that, once in each process
        tensor = torch.zeros(4, dtype=torch.bcomplex32)
    with pytest.raises(NotImplementedError):
        tensor.fill_(1)


QUANTISED = [name for name in known(LEFT_OUT) if name.startswith("q")]


def alone(*lines):
    """Run a script where nobody was warned of anything yet, and every warning is an error."""
    start = ["import sys, torch, warnings", "warnings.simplefilter('error')"]
    script = "\n".join([*start, *lines])
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


@pytest.mark.parametrize("name", QUANTISED)
def test_torch_warns_of_quantised_tensors_when_it_loads_them(name, tmp_path):
    ended = alone(
        "with warnings.catch_warnings():",
        "    warnings.simplefilter('ignore')",
        f"    tensor = torch.quantize_per_tensor(torch.ones(4), 1.0, 0, torch.{name})",
        f"    torch.save(tensor, {str(tmp_path / 't.pt')!r})",
        f"torch.load({str(tmp_path / 't.pt')!r}, weights_only=True)",
    )
    assert "UserWarning: TypedStorage is deprecated" in ended.stderr


def quantised(name):
    module = nn.Linear(1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codes = torch.quantize_per_tensor(torch.ones(4), 1.0, 0, getattr(torch, name))
    module.register_buffer("codes", codes)
    return module


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", QUANTISED)
def test_modules_that_have_them_are_judged_nonetheless(name):
    subject = Subject(partial(quantised, name))
    assert codes(Case(), eager, subject) == []
    assert codes(Case(), mmap_meta_assign, subject) == []
    refused = examine(Case(), eager, CPU, Demands(), subject).refused
    assert (refused is not None) == ("x" in name)  # those of which several make a byte

    def other_codes(build, path, device):
        module = eager(build, path, device)
        module.codes = torch.quantize_per_tensor(torch.zeros(4), 1.0, 0, getattr(torch, name))
        return module

    assert "x" in name or codes(Case(), other_codes, subject) == ["CKPT101"]


def test_nothing_is_packed_but_what_torch_cannot_fill():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        for dtype in map(named, NAMES):
            if dtype in PACKED:
                with pytest.raises(NotImplementedError):
                    torch.empty(2, dtype=dtype)
            else:
                torch.empty(2, dtype=dtype)
    finally:
        torch.use_deterministic_algorithms(False)


def test_loaders_are_not_the_first_to_meet_a_dtype_that_torch_warns_of():
    ended = alone(
        "warnings.filterwarnings('ignore', message='Failed to initialize NumPy')",
        "from pytest_ckptload.examine.pipeline import examine",
        "from pytest_ckptload.examine.reference import Demands",
        "from pytest_ckptload.recipes import mmap_meta_assign",
        "from pytest_ckptload.strategies import covering",
        "for case in covering(features=['complex']):",
        "    assert not examine(case, mmap_meta_assign, torch.device('cpu'), Demands()).findings",
    )
    assert ended.returncode == 0, ended.stderr


# --- patterns


@each_dtype
def test_patterns_are_unlike_each_other(dtype):
    assert len({tuple(raw(fill((8,), dtype, index))) for index in range(100)}) == 100


@each_dtype
def test_patterns_are_plain_numbers(dtype):
    for index in (0, 1, 99, 100, 1007):
        tensor = fill((3, 90), dtype, index)
        assert tensor.shape == (3, 90)
        assert tensor.dtype == dtype
        assert not is_poison(tensor)
        if dtype == torch.bool:
            assert set(raw(tensor)) == {0, 1}
        elif dtype not in PACKED:
            numbers = torch.view_as_real(tensor) if dtype.is_complex else tensor
            numbers = numbers.to(torch.float64)
            assert numbers.isfinite().all()
            assert (numbers != 0).all()
            assert (numbers < 0).any() == dtype.is_signed
            assert (numbers > 0).any()


def can_be(dtype, form):
    if form == "conjugated":
        return dtype.is_complex
    return form != "negated" or (dtype.itemsize > 1 and dtype.is_floating_point)


@each_dtype
def test_every_form_leaves_the_values_as_they_are(dtype):
    dense = fill((2, 2, 3, 2), dtype, 0)
    for form in [form for form in FORMS if can_be(dtype, form)]:
        wanted = dense[:1].expand(dense.shape) if form == "expanded" else dense
        assert first_difference(FORMS[form].make(dense), wanted) is None


# --- values


def with_value(dtype, kind):
    """Two tensors of one element and the integer in the second: plain, and with the value."""
    before, tensor = fill((3,), dtype, 0), fill((3,), dtype, 0)
    put(tensor, 1, kind)
    width = dtype.itemsize
    assert raw(tensor)[:width] == raw(before)[:width]
    assert raw(tensor)[2 * width :] == raw(before)[2 * width :]
    return tensor[1], int.from_bytes(bytes(raw(tensor)[width : 2 * width]), sys.byteorder)


@each_dtype
def test_the_values_of_a_dtype_are_unlike_each_other(dtype):
    kinds = value_kinds(dtype)
    bits = {with_value(dtype, kind)[1] for kind in kinds}
    assert len(bits) == len(kinds)
    assert kinds or dtype == torch.bool


FLOATING = [n for n in NAMES if named(n).is_floating_point and named(n) not in PACKED]


@pytest.mark.parametrize("name", FLOATING)
def test_the_values_of_floats_are_what_their_kinds_say(name):
    dtype = named(name)
    limits = torch.finfo(dtype)
    for kind in value_kinds(dtype):
        element, bits = with_value(dtype, kind)
        number = element.to(torch.float64).item()
        if kind.startswith("nan"):
            assert number != number
        elif kind == "negative-zero":
            assert number == 0
            assert bits == 1 << (8 * dtype.itemsize - 1)
        elif kind.endswith("denormal"):
            assert 0 < number < limits.smallest_normal
        elif kind == "archive-end":
            assert bits.to_bytes(dtype.itemsize, sys.byteorder) == b"PK\5\6"
        else:
            assert (
                number
                == {
                    "infinity": float("inf"),
                    "negative-infinity": float("-inf"),
                    "largest": limits.max,
                    # Torch gives the opposite of the greatest, which this one has no sign for.
                    "lowest": 2.0**-127 if "e8m0" in name else limits.min,
                    "zero": 0.0,
                }[kind]
            )


@pytest.mark.parametrize(
    "name", known(["float64", "float32", "float16", "bfloat16", "float8_e5m2"])
)
def test_nans_have_payloads_and_either_signal_or_do_not(name):
    dtype = named(name)
    canonical = torch.full((3,), float("nan"), dtype=dtype)
    mantissa = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}.get(name, 2)
    quiet = 1 << (mantissa - 1)
    assert with_value(dtype, "nan-payload")[1] & quiet
    assert not with_value(dtype, "nan-signalling")[1] & quiet
    assert raw(with_value(dtype, "nan-payload")[0]) != raw(canonical[1])


@pytest.mark.parametrize("name", [n for n in NAMES if "int" in n])
def test_the_values_of_integers_are_extremes_and_what_floats_round(name):
    dtype, limits = named(name), torch.iinfo(named(name))
    assert with_value(dtype, "largest")[0].item() == limits.max
    assert with_value(dtype, "lowest")[0].item() == limits.min
    narrower = {2: torch.bfloat16, 4: torch.float32, 8: torch.float64}.get(dtype.itemsize)
    if narrower is not None:
        wide = with_value(dtype, "wide")[0]
        assert wide.to(narrower).to(dtype).item() != wide.item()


@pytest.mark.parametrize("name", known(COMPLEX))
def test_the_values_of_complex_numbers_are_in_either_part(name):
    dtype = named(name)
    part = PARTS[dtype]
    assert len(value_kinds(dtype)) == 2 * len(value_kinds(part))
    for kind in value_kinds(part):
        value = raw(with_value(part, kind)[0])
        width = part.itemsize
        assert raw(with_value(dtype, kind)[0])[:width] == value
        assert raw(with_value(dtype, f"imaginary-{kind}")[0])[width:] == value


@each_dtype
def test_a_difference_is_shown_with_its_bytes(dtype):
    plain = fill((3,), dtype, 0)
    for kind in value_kinds(dtype):
        changed = plain.clone()
        put(changed, 1, kind)
        difference = first_difference(changed, plain)
        assert (difference.count, difference.index) == (1, (1,))
        assert bytes(reversed(raw(changed[1]))).hex() in difference.actual


# --- generation


def test_every_value_of_every_dtype_is_covered():
    cases = [c for c in covering() if any(t.values for t in c.checkpoint.tensors.values())]
    seen = {
        (str(case.build().state_dict()[name].dtype), kind)
        for case in cases
        for name, tensor in case.checkpoint.tensors.items()
        for _, kind in tensor.values
    }
    assert seen == {(str(d), kind) for d in map(named, NAMES) for kind in value_kinds(d)}
    assert len(cases) < 60


def dtypes_of(cases):
    structures = [structure_of(case.build()) for case in cases]
    return {slot.dtype for structure in structures for slot in structure.saved}


def test_each_dtype_comes_with_the_feature_that_is_named_after_it():
    assert dtypes_of(covering()) == set(map(named, NAMES))
    assert dtypes_of(covering(features=("rare-dtype",))) >= set(map(named, known(RARE)))
    for feature, names in (("rare-dtype", RARE), ("complex", COMPLEX)):
        without = dtypes_of(covering(without=(feature, "integer-parameters", "conj-neg")))
        assert without.isdisjoint(map(named, known(names)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_of_torch_keep_them_all(recipe):
    dtype = torch.bfloat16 if recipe == "mmap_stream" else None
    for case in covering(features=FEATURES):
        demands = {"promises": frozenset({"strict", "robust"}), "dtype": dtype}
        assert codes(case, RECIPES[recipe], **demands) == [], case


# --- loaders that lose them


def rewriting(dtype, change):
    """An eager loader that has all tensors of one dtype go through ``change``."""

    def load(build, path, device):
        module = eager(build, path, device)
        with torch.no_grad():
            for tensor in module.state_dict().values():
                if tensor.dtype == dtype:
                    tensor.copy_(change(tensor))
        return module

    return load


def found_by_kind(name, change):
    """What is found in cases with one value in this dtype, by the kind of value."""
    loader = rewriting(named(name), change)
    found = {}
    for case in covering():
        values = [t.values for t in case.checkpoint.tensors.values() if len(t.values) == 1]
        if values and case.module.kwargs.get("dtype") == name:
            for code in codes(case, loader):
                found.setdefault(code, set()).add(values[0][0][1])
    return found


def there_and_back(dtype):
    return lambda tensor: tensor.to(dtype).to(tensor.dtype)


def test_quieted_nans_are_found():
    found = found_by_kind("float32", there_and_back(torch.float64))
    assert found == {"CKPT103": {"nan-signalling"}}


def test_signs_of_zero_are_found():
    found = found_by_kind("float32", lambda tensor: torch.where(tensor == 0, 0.0, tensor))
    assert found == {"CKPT103": {"negative-zero"}}


def test_flushed_denormals_are_found():
    tiny = torch.finfo(torch.bfloat16).smallest_normal
    found = found_by_kind("bfloat16", lambda t: torch.where((t < tiny) & (t > 0), 0.0, t))
    assert found == {"CKPT101": {"denormal", "largest-denormal"}}


def test_clamped_infinities_are_found():
    limits = torch.finfo(torch.bfloat16)
    found = found_by_kind("bfloat16", lambda t: t.clamp(limits.min, limits.max))
    assert found == {"CKPT101": {"infinity", "negative-infinity"}}


def test_integers_that_went_through_floats_are_found():
    found = found_by_kind("int64", there_and_back(torch.float64))
    assert set(found) == {"CKPT101"}
    assert "wide" in found["CKPT101"]


@pytest.mark.parametrize(
    ("name", "through"),
    [
        ("float8_e5m2", "float32"),
        ("complex64", "complex128"),
        ("complex32", "complex64"),
    ],
)
def test_forms_of_numbers_are_told_from_numbers_in_every_dtype(name, through):
    """All numbers are the same, and the payloads of NaNs are not."""
    loader = rewriting(named(name), there_and_back(named(through)))
    cases = [c for c in covering() if c.module and c.module.kwargs.get("dtype") == name]
    found = {code for case in cases for code in codes(case, loader)}
    assert found == {"CKPT103"}


@pytest.mark.parametrize("dtype", sorted(PACKED, key=str), ids=str)
def test_bits_that_came_as_something_else_are_found(dtype):
    """Torch knows no conversion between the two: the values cannot be compared."""
    case = Case(ModuleSpec("Codes", {"size": 4, "dtype": str(dtype).removeprefix("torch.")}))

    def load(build, path, device):
        module = eager(build, path, device)
        module.codes = torch.zeros(module.codes.shape, dtype=torch.int32)
        return module

    assert codes(case, load) == ["CKPT201"]


@pytest.mark.parametrize("dtype", sorted(PACKED, key=str), ids=str)
def test_bits_that_differ_are_found(dtype):
    case = Case(ModuleSpec("Codes", {"size": 4, "dtype": str(dtype).removeprefix("torch.")}))

    def load(build, path, device):
        module = eager(build, path, device)
        module.codes.view(torch.uint8)[1] += 1
        return module

    assert codes(case, load) == ["CKPT101"]


def test_parameters_that_are_to_require_gradients_cannot_be_integers():
    def load(build, path, device):
        state = torch.load(path, map_location=device, weights_only=True, mmap=False)
        with torch.device("meta"):
            module = build()
        for name, tensor in state.items():
            setattr(module, name, nn.Parameter(tensor))
        return module

    assert codes(Case(ModuleSpec("Weights", {"size": 2, "dtype": "float16"})), load) == []
    (case, *_) = covering(features=("integer-parameters",))
    assert codes(case, load) == ["CKPT803"]


def test_nobody_has_to_cast_complex_numbers_to_real_ones():
    case = Case(ModuleSpec("Spectrum", {"size": 2, "dtype": "complex64"}))

    def load(build, path, device):
        raise TypeError("complex")

    assert codes(case, load) == ["CKPT803"]
    assert codes(case, load, dtype=torch.complex128) == ["CKPT803"]
    assert codes(case, load, dtype=torch.bfloat16) == []
    # Leaving them as they are is right, and so is what ``Module.to`` does.
    for caster in (mmap_stream, partial(eager, dtype=torch.bfloat16)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert codes(case, caster, dtype=torch.bfloat16) == []


# --- scripts


@each_dtype
def test_scripts_have_every_value_of_many_elements(dtype):
    name = str(dtype).removeprefix("torch.")
    for kind in value_kinds(dtype)[:4]:
        spec = CheckpointSpec({"codes": TensorSpec(values=((17, kind),))})
        case = Case(ModuleSpec("Codes", {"size": 40, "dtype": name}), spec)
        module = case.build()
        (line,) = [n for n in checkpoint_lines(case, module) if "view(-1)" in n]
        assert "[17] = " in line or dtype.is_complex
        made = {"torch": torch, "fill": fill, "build": case.build}
        exec("\n".join(checkpoint_lines(case, module)), made)
        wanted = state_of(module, structure_of(module), spec)["codes"]
        assert made["state"]["codes"].dtype == dtype
        assert raw(made["state"]["codes"]) == raw(wanted)
