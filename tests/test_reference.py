"""The section "The reference, exactly" of the architecture, sentence by sentence."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch
from torch import nn

from pytest_ckptload.case import Case, CheckpointSpec, Damage, ModuleSpec, TensorSpec, View
from pytest_ckptload.contents import state_of
from pytest_ckptload.examine.examination import compare
from pytest_ckptload.examine.loads import attempt
from pytest_ckptload.examine.pipeline import examine
from pytest_ckptload.examine.reference import Demands, reference_of
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.recipes import eager, mmap_meta_assign
from pytest_ckptload.recipes.eager import built
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.feature import Plan, first

CPU = torch.device("cpu")


def codes(build, loader, checkpoint=None, **demands):
    """The codes of what fails ``loader`` on a module of ``build`` and a checkpoint for it."""
    case = Case(None, checkpoint or CheckpointSpec())
    found = examine(case, loader, CPU, Demands(**demands), Subject(build)).findings
    return [finding.code for finding in found if not finding.advice]


def loads(change=lambda name, tensor: tensor):
    """A loader that gives each parameter what ``change`` makes of its entry, by assignment."""

    def load(build, path, device):
        module = build()
        for name, entry in torch.load(path, weights_only=True).items():
            old = module.state_dict(keep_vars=True)[name]
            value = change(name, entry)
            owner, _, last = name.rpartition(".")
            if isinstance(old, nn.Parameter):
                value = nn.Parameter(value, requires_grad=old.requires_grad)
            setattr(module.get_submodule(owner), last, value)
        return module

    return load


def linear():
    return nn.Linear(2, 3)


class Holder(nn.Module):
    """One parameter, ``weight``, made from any tensor."""

    def __init__(self, tensor):
        super().__init__()
        self.weight = nn.Parameter(tensor, requires_grad=tensor.is_floating_point())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(2))
        self.b = self.a


# --- values


def test_values_are_logical_bytes_conjugation_resolved():
    def build():
        return Holder(torch.zeros(2, dtype=torch.complex64))

    def lazily_conjugated(build, path, device):
        module = eager(build, path, device)
        module.weight.requires_grad_(False)
        module.weight.data = module.weight.data.conj().resolve_conj().conj()
        assert module.weight.data.is_conj()
        return module

    assert "CKPT101" not in codes(build, lazily_conjugated)


@pytest.mark.parametrize("kind", ["nan-payload", "negative-zero", "denormal"])
def test_without_conversion_every_bit_counts(kind):
    checkpoint = CheckpointSpec({"weight": TensorSpec(values=((1, kind),))})

    def normalised(name, entry):
        return torch.where(entry.abs() < 1e-30, 0.0, entry + 0.0).nan_to_num(nan=float("nan"))

    assert codes(linear, loads(), checkpoint) == []
    found = codes(linear, loads(normalised), checkpoint)
    assert found == (["CKPT101"] if kind == "denormal" else ["CKPT103"])


def test_values_are_compared_in_the_loaded_dtype():
    checkpoint = CheckpointSpec({"weight": TensorSpec("float64"), "bias": TensorSpec("float64")})
    assert codes(linear, loads(lambda name, t: t.float()), checkpoint) == []
    assert codes(linear, loads(lambda name, t: t.float() * 1.0001), checkpoint) == ["CKPT101"] * 2


def test_after_a_conversion_any_nan_equals_any_nan():
    checkpoint = CheckpointSpec({"weight": TensorSpec("float64", values=((0, "nan-payload"),))})

    def other_nan(name, entry):
        return torch.where(entry.isnan(), -entry.new_tensor(float("nan")), entry).float()

    assert codes(linear, loads(other_nan), checkpoint) == []


# --- dtype and strides


DRIFT = CheckpointSpec({"weight": TensorSpec("float64"), "bias": TensorSpec("float16")})


def test_dtype_follows_the_file_or_the_module():
    assert codes(linear, loads(), DRIFT) == []
    assert codes(linear, eager, DRIFT) == []
    assert "CKPT201" in codes(linear, loads(lambda name, t: t.bfloat16()), DRIFT)


def test_dtype_follows_one_of_them_throughout_a_module():
    mixed = loads(lambda name, t: t.float() if name == "bias" else t)
    assert codes(linear, mixed, DRIFT) == ["CKPT201"]


def test_not_across_cases():
    def by_size(build, path, device):
        module = build()
        return (mmap_meta_assign if module.weight.numel() > 4 else eager)(build, path, device)

    assert codes(linear, by_size, DRIFT) == []
    assert codes(lambda: nn.Linear(1, 1), by_size, DRIFT) == []


@pytest.mark.parametrize(
    ("semantics", "loader", "found"),
    [
        ("assign", mmap_meta_assign, []),
        ("assign", eager, ["CKPT201", "CKPT201"]),
        ("copy", eager, []),
        ("copy", mmap_meta_assign, ["CKPT201", "CKPT201"]),
    ],
)
def test_semantics_pins_the_dtype(semantics, loader, found):
    assert codes(linear, loader, DRIFT, semantics=semantics) == found


def channels_last():
    return nn.Conv2d(2, 2, 2, bias=False).to(memory_format=torch.channels_last)


def test_strides_follow_the_file_or_the_module():
    assert codes(channels_last, eager) == []  # the module's: channels last
    assert codes(channels_last, loads()) == []  # the file's: contiguous
    assert codes(
        channels_last, loads(lambda n, t: t.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3))
    ) == ["CKPT203"]
    assert codes(channels_last, loads(), semantics="copy") == ["CKPT203"]


def test_dtype_and_strides_are_two_axes():
    checkpoint = CheckpointSpec({"weight": TensorSpec("float64")})
    file_dtype_module_strides = loads(lambda n, t: t.contiguous(memory_format=torch.channels_last))
    assert codes(channels_last, file_dtype_module_strides, checkpoint) == []


def test_entries_that_are_not_dense_must_end_dense_or_as_in_the_file():
    def build():
        return Holder(torch.zeros(4))

    def with_holes(tensor, step=2):
        wide = torch.zeros(4 * step)
        wide[::step] = tensor
        return wide[::step]

    def found(step):
        subject = Subject(build)
        values = {"weight": with_holes(torch.arange(4.0))}
        eager_module, module = subject.build(), subject.build()
        for m in (eager_module, module):
            m.load_state_dict(values)
        if step:
            module.weight.data = with_holes(torch.arange(4.0), step)
        reference = reference_of(eager_module, values, subject, Demands())
        return [f.code for f in compare(module, reference)]

    assert found(None) == []
    assert found(2) == []
    assert found(3) == ["CKPT203"]


def test_where_torch_refuses_a_conversion_refusing_is_right():
    checkpoint = CheckpointSpec({"weight": TensorSpec("int8")})
    assert codes(linear, eager, checkpoint) == []
    assert codes(linear, mmap_meta_assign, checkpoint) == []  # raises: ints require no gradients


# --- aliasing


def test_disjoint_views_of_one_buffer_are_independent():
    def interleaved(build, path, device):
        module = eager(build, path, device)
        buffer = torch.zeros(2, 6)
        first, second = buffer[:, :3], buffer[:, 3:]
        first.copy_(module.a.data), second.copy_(module.b.data)
        module.a.data, module.b.data = first, second
        return module

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.zeros(2, 3))
            self.b = nn.Parameter(torch.zeros(2, 3))

    found = codes(Two, interleaved)
    assert "CKPT402" not in found
    assert found == ["CKPT203", "CKPT203"]  # holes, though: neither the file's strides nor dense


@pytest.mark.parametrize(("shift", "found"), [(0, ["CKPT402"]), (5, ["CKPT402"]), (6, [])])
def test_aliasing_means_elements_in_common(shift, found):
    checkpoint = CheckpointSpec(views=(View(("weight", "bias"), shift),))
    assert codes(linear, eager, checkpoint) == []
    assert codes(linear, mmap_meta_assign, checkpoint) == found


# --- ties


def tied(pick, *, tie):
    """A loader of ``Tied`` that gives each name ``pick(state, name)``, tied or not."""

    def load(build, path, device):
        state = torch.load(path, weights_only=True)
        module = build()
        module.a = nn.Parameter(pick(state, "a"))
        module.b = module.a if tie else nn.Parameter(pick(state, "b"))
        return module

    return load


DIFFER = CheckpointSpec(ties="differ")


@pytest.mark.parametrize(
    "loader",
    [
        tied(lambda state, name: state["a"], tie=True),
        tied(lambda state, name: state["b"], tie=True),
        tied(lambda state, name: state[name], tie=False),
    ],
    ids=["the first, tied", "the second, tied", "each its own"],
)
def test_tied_names_that_differ_in_the_file(loader):
    assert codes(Tied, loader, DIFFER) == []


def refuses(build, path, device):
    raise ValueError("this model ties a and b, and the file holds different values for them")


def test_tied_names_that_differ_in_the_file_may_be_refused():
    assert codes(Tied, refuses, DIFFER) == []
    assert codes(Tied, refuses) == ["CKPT803"]


@pytest.mark.parametrize(
    "loader",
    [
        tied(lambda state, name: state["a"] + state["b"], tie=True),
        tied(lambda state, name: state["a"], tie=False),
    ],
    ids=["neither value", "one value, untied"],
)
def test_tied_names_that_differ_in_the_file_are_not_mixed(loader):
    assert codes(Tied, loader, DIFFER) != []


MISSING_TIE = CheckpointSpec(missing=("b",))


def test_a_missing_tied_name_is_filled_through_the_tie_or_refused():
    filled = tied(lambda state, name: state["a"], tie=True)
    strict = frozenset({"strict"})
    assert codes(Tied, filled, MISSING_TIE) == []
    assert codes(Tied, filled, MISSING_TIE, promises=strict) == []
    assert codes(Tied, refuses, MISSING_TIE, promises=strict) == []
    unfilled = tied(lambda state, name: state.get(name, torch.zeros(2)), tie=False)
    assert codes(Tied, unfilled, MISSING_TIE) == ["CKPT104", "CKPT401"]


# --- refusals and damage


class Refusing(nn.Linear):
    def _load_from_state_dict(self, *args):
        raise RuntimeError("not with me")


def test_where_the_eager_recipe_refuses_nothing_is_judged():
    for loader in (eager, mmap_meta_assign, lambda build, path, device: build()):
        assert codes(lambda: Refusing(2, 3), loader) == []


def test_other_shapes_are_to_be_refused_always():
    wrong_shape = CheckpointSpec({"weight": TensorSpec(shape=(7,))})

    def broadcasting(build, path, device):
        module = build()
        module.weight.data.copy_(torch.load(path, weights_only=True)["weight"])
        return module

    assert codes(linear, eager, wrong_shape) == []
    assert codes(linear, mmap_meta_assign, wrong_shape) == []
    assert codes(linear, lambda build, path, device: build(), wrong_shape) == ["CKPT804"]
    one = CheckpointSpec({"weight": TensorSpec(shape=(1, 1))})
    assert codes(linear, broadcasting, one) == ["CKPT804"]


@pytest.mark.parametrize("wrapped", [{"prefix": "module."}, {"payload": "model"}], ids=str)
def test_a_wrapped_file_may_be_refused_but_not_half_loaded(wrapped):
    spec = CheckpointSpec(**wrapped)

    def plain(build, path, device):
        module = build()
        module.load_state_dict(torch.load(path, weights_only=True), strict=True)
        return module

    def lenient(build, path, device):
        module = build()
        module.load_state_dict(torch.load(path, weights_only=True), strict=False)
        return module

    def unwrapping(build, path, device, names=("weight", "bias")):
        payload = torch.load(path, weights_only=True)
        state = {k.removeprefix("module."): v for k, v in payload.get("model", payload).items()}
        module = build()
        module.load_state_dict({name: state[name] for name in names}, strict=False)
        return module

    assert codes(linear, plain, spec) == []
    assert codes(linear, unwrapping, spec, promises=frozenset({"strict"})) == []
    assert codes(linear, lenient, spec) == []
    assert codes(linear, lenient, spec, promises=frozenset({"strict"})) == ["CKPT804"]
    assert codes(linear, lambda *a: unwrapping(*a, names=("bias",)), spec) == ["CKPT104"]


def test_without_strict_a_missing_key_may_be_accepted_but_nothing_left_unset():
    missing = CheckpointSpec(missing=("bias",))

    def lenient(build, path, device):
        module = build()
        module.load_state_dict(torch.load(path, weights_only=True), strict=False)
        return module

    def on_meta(build, path, device):
        with torch.device("meta"):
            module = build()
        module.load_state_dict(torch.load(path, weights_only=True), strict=False, assign=True)
        return module

    def unset(build, path, device):
        module = on_meta(build, path, device)
        module.bias = nn.Parameter(torch.empty(3))
        return module

    assert codes(linear, lenient, missing) == []
    assert codes(linear, lenient, missing, promises=frozenset({"strict"})) == ["CKPT804"]
    assert codes(linear, on_meta, missing) == ["CKPT303"]
    assert codes(linear, unset, missing) == ["CKPT102"]


def shrugs(build, path, device):
    try:
        return eager(build, path, device)
    except Exception:
        return build()


def test_a_bit_flipped_in_data_that_torch_accepts_is_charged_to_nobody():
    damaged = CheckpointSpec(damage=Damage("data"))
    for loader in (eager, mmap_meta_assign, refuses):
        assert codes(linear, loader, damaged, promises=frozenset({"robust", "strict"})) == []
    drifting = CheckpointSpec({"weight": TensorSpec("float64")}, damage=Damage("data"))
    for loader in (eager, mmap_meta_assign):
        assert codes(linear, loader, drifting) == []
    # What else is wrong shows all the same.
    assert codes(linear, loads(lambda name, t: t + 1), damaged) == ["CKPT101", "CKPT101"]


@pytest.mark.parametrize("kind", ["truncated", "emptied", "directory", "hostile-exec"])
def test_of_damage_only_acceptance_counts_and_only_with_robust(kind):
    damaged = CheckpointSpec(damage=Damage(kind))

    def refuses_in_its_own_way(build, path, device):
        raise SystemError("no")

    assert codes(linear, shrugs, damaged) == []
    assert codes(linear, shrugs, damaged, promises=frozenset({"robust"})) == ["CKPT805"]
    assert codes(linear, refuses_in_its_own_way, damaged, promises=frozenset({"robust"})) == []


def test_a_failure_need_not_be_an_exception():
    class Aborted(BaseException):
        pass

    def aborts(build, path, device):
        raise Aborted("like CheckpointException of torch.distributed.checkpoint")

    assert codes(linear, aborts) == ["CKPT803"]


# --- poison


def test_uninitialised_memory_cannot_pass_for_the_right_bytes():
    def zeros():
        module = nn.Module()
        module.register_buffer("zeros", torch.zeros(1000), persistent=False)
        return module

    def lucky(build, path, device):
        module = build()
        module.zeros = torch.empty(1000)  # fresh pages, full of the zeros that are wanted
        return module

    assert codes(zeros, lucky) == ["CKPT102"]


def test_poison_is_on_during_the_load_only_and_its_warning_silenced():
    seen = []

    def looks(build, path, device):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return eager(build, path, device)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert codes(linear, looks) == []
    assert seen
    assert all(seen)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="this torch has no float4")
def test_poison_is_off_for_float4_which_cannot_be_filled():
    module = nn.Module()
    packed = torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    module.register_buffer("packed", packed, persistent=False)
    subject = Subject(lambda: module)
    assert not subject.fillable
    empty = functools.partial(torch.empty, 4, dtype=torch.float4_e2m1fn_x2)
    loaded = attempt(empty, fill=subject.fillable)
    assert loaded.error is None
    assert loaded.returned.shape == (4,)


# --- contents


def test_contents_are_unlike_each_other_and_unlike_what_construction_gives():
    for feature in FEATURES.values():
        if feature.of != "module":
            continue
        plan = Plan()
        feature.apply(plan, first)
        spec = plan.module()
        subject = Subject(spec.build)
        state = state_of(subject.fresh, subject.structure, CheckpointSpec(ties="differ"))
        seen = set()
        for slot in subject.structure.saved:
            entry = state[slot.name]
            if not slot.numel:
                continue
            content = (entry.dtype, bytes(entry.reshape(-1).view(torch.uint8).tolist()))
            assert content not in seen, f"{feature.name}: {slot.name}"
            seen.add(content)
            initial = subject.fresh.state_dict()[slot.name]
            assert not torch.equal(
                entry.reshape(-1).view(torch.uint8), initial.reshape(-1).view(torch.uint8)
            ), f"{feature.name}: {slot.name}"


def test_a_swap_of_two_tensors_shows():
    def swaps(build, path, device):
        module = eager(build, path, device)
        a, b = module[0].weight.data.clone(), module[1].weight.data.clone()
        module[0].weight.data, module[1].weight.data = b, a
        return module

    spec = ModuleSpec(
        "Sequential",
        children={
            "0": ModuleSpec("Linear", {"in_features": 1, "out_features": 1}),
            "1": ModuleSpec("Linear", {"in_features": 1, "out_features": 1}),
        },
    )
    assert codes(spec.build, swaps) == ["CKPT101", "CKPT101"]


# --- dtype=


class Rotary(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("inv_freq", torch.tensor([1.0, 1 / 3]), persistent=False)
        self.register_buffer("steps", torch.tensor(3))


def casting(dtype, *, buffers, integers=False):
    def load(build, path, device):
        module = build()
        for name, entry in torch.load(path, weights_only=True).items():
            if entry.is_floating_point() or integers:
                entry = entry.to(dtype)
            if name == "weight":
                module.weight = nn.Parameter(entry)
            else:
                setattr(module, name, entry)
        if buffers:
            module.inv_freq = module.inv_freq.to(dtype)
        return module

    return load


@pytest.mark.parametrize("buffers", [True, False])
def test_a_casting_loader_may_leave_what_the_file_lacks(buffers):
    half = torch.bfloat16
    assert codes(Rotary, casting(half, buffers=buffers), dtype=half) == []


def test_a_casting_loader_casts_floating_tensors_to_that_dtype_and_no_others():
    assert codes(Rotary, casting(torch.float16, buffers=False), dtype=torch.bfloat16) != []
    found = codes(
        Rotary, casting(torch.bfloat16, buffers=False, integers=True), dtype=torch.bfloat16
    )
    assert "CKPT201" in found


def test_a_cast_may_go_by_way_of_the_modules_dtype():
    checkpoint = CheckpointSpec({"weight": TensorSpec("float64")})

    def twice(build, path, device):
        return eager(build, path, device).to(torch.bfloat16)

    def once(build, path, device):
        module = twice(build, path, device)
        module.weight.data = torch.load(path, weights_only=True)["weight"].bfloat16()
        return module

    for loader in (once, twice):
        assert codes(Rotary, loader, checkpoint, dtype=torch.bfloat16) == []


def test_a_wrapped_file_of_which_nothing_is_right_is_no_mismatch():
    """Torch maps a compressed record as it stands: whether the key was looked at does not show."""
    wrapped = CheckpointSpec(payload="model", format="deflated")
    promises = frozenset({"strict", "formats"})
    assert codes(linear, eager, wrapped, promises=promises) == []
    assert "CKPT804" not in codes(linear, mmap_meta_assign, wrapped, promises=promises)


def test_a_device_that_was_entered_is_not_the_one_that_is_asked_for(monkeypatch):
    """Of which ``torch.get_default_device`` knows nothing before 2.7."""
    monkeypatch.setattr(torch, "get_default_device", lambda: torch.device("cpu"))
    with torch.device("meta"):
        module = built(lambda: nn.Linear(1, 1), torch.device("cpu"))
    assert module.weight.device == torch.device("cpu")
