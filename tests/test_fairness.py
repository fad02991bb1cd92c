"""Correct loaders that were accused once, and the crashes met on the way: each stays mended."""

from __future__ import annotations

import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn

from pytest_ckptload.case import Case, CheckpointSpec, Edit, ModuleSpec, TensorSpec
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.examine.pipeline import examine
from pytest_ckptload.examine.reference import Demands
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.examine.trials.lifetime import after_deleting
from pytest_ckptload.faults.parts import loads_without_strict
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.recipes import eager, eager_resume, meta_assign, mmap_meta_assign, mmap_stream

CPU = torch.device("cpu")


def codes(build, loader, checkpoint=None, **demands):
    case = Case(None, checkpoint or CheckpointSpec())
    found = examine(case, loader, CPU, Demands(**demands), Subject(build)).findings
    return [finding.code for finding in found if not finding.advice]


def linear():
    return nn.Linear(2, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_cast_after_an_eager_load_goes_by_way_of_the_modules_dtype(dtype):
    """A file in float64, a module in float32: rounded twice."""
    checkpoint = CheckpointSpec({"weight": TensorSpec("float64"), "bias": TensorSpec("float64")})

    def cast_after(build, path, device):
        return eager(build, path, device).to(dtype)

    assert codes(linear, cast_after, checkpoint, dtype=dtype) == []


class Renaming(nn.Linear):
    """Loads old names by code of its own."""

    def _load_from_state_dict(self, state_dict, prefix, *args):
        super()._load_from_state_dict(state_dict, prefix, *args)


class Doubling(nn.Linear):
    def load_state_dict(self, state_dict, *args, **kwargs):
        return super().load_state_dict({k: 2 * v for k, v in state_dict.items()}, *args, **kwargs)


@pytest.mark.parametrize("kind", [Renaming, Doubling])
@pytest.mark.parametrize("load", [eager, mmap_meta_assign])
def test_modules_that_load_by_code_of_their_own_may_take_the_files_dtype(kind, load):
    checkpoint = CheckpointSpec({"weight": TensorSpec("float64"), "bias": TensorSpec("float64")})
    assert codes(lambda: kind(2, 3), load, checkpoint) == []


class Woven(nn.Module):
    """A weight, and a buffer that is a slice of it by construction."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))
        self.register_buffer("head", self.weight.detach()[:2])


def test_tensors_that_overlap_by_construction():
    assert codes(Woven, eager) == []
    # Torn apart: the file's contents are kept, the view is not, and that is what is found.
    assert set(codes(Woven, mmap_meta_assign)) <= {"CKPT401"}

    def torn(build, path, device):
        module = eager(build, path, device)
        module.head = module.head.clone()
        return module

    assert codes(Woven, torn) == ["CKPT401"]


def test_keys_of_dicts_are_called_alike_in_every_module():
    class ByModule(nn.Module):
        def __init__(self):
            super().__init__()
            self.child = nn.Linear(1, 1)
            self.scales = {self.child: torch.ones(2), self.child.weight: torch.ones(1), "a": 1}

    assert codes(ByModule, eager) == []


def test_a_buffer_that_is_not_dense_may_end_dense():
    class Expanded(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            mask = torch.tensor([0.0, 1.0]).expand(3, 2)
            self.register_buffer("mask", mask, persistent=False)

    def dense(build, path, device):
        module = eager(build, path, device)
        module.mask = module.mask.contiguous()
        return module

    assert codes(Expanded, dense) == []


def test_models_for_inference_need_not_train():
    def for_inference(build, path, device):
        with torch.inference_mode():
            return eager(build, path, device)

    assert codes(linear, for_inference) == []
    report = Checker(Defaults(max_examples=0)).check(
        for_inference, features=["buffer-scalar", "sparse-buffer"]
    )
    assert {finding.code for finding in report.advice} == {"CKPT210"}


def test_an_optimizer_may_hold_what_is_not_the_modules():
    temperature = nn.Parameter(torch.ones(1))

    def make_optimizer(module):
        return torch.optim.SGD([*module.parameters(), temperature], lr=0.1)

    def as_a_list(*arguments):
        return list(eager_resume(*arguments))

    checker = Checker(Defaults(max_examples=0))
    report = checker.check_resume(as_a_list, build=linear, make_optimizer=make_optimizer)
    assert report.examples


def test_a_tied_file_without_a_factory_is_taken_for_tied(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(2, 2, bias=False)
            self.b = nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight

    path = tmp_path / "tied.pt"
    torch.save(Tied().state_dict(), path)
    assert Checker().check(eager, checkpoint=path).examples == 1
    with pytest.raises(CheckpointMismatch) as caught:
        Checker().check(mmap_meta_assign, checkpoint=path)
    assert [f.code for f in caught.value.findings] == ["CKPT401"]


def test_sparse_values_that_differ_are_reported_and_do_not_crash():
    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.register_buffer("mask", torch.eye(2), persistent=False)

    def other(build, path, device):
        module = eager(build, path, device)
        module.mask = (-module.mask).to_sparse()
        return module

    assert codes(Sparse, other) == ["CKPT101", "CKPT204"]


def test_a_missing_tensor_may_be_made_anew_where_lists_hold_it_as_well():
    """Recurrent modules hold their weights in a list besides."""

    def lenient(build, path, device):
        module = build()
        missing = module.load_state_dict(torch.load(path, weights_only=True), strict=False)
        for name in missing.missing_keys:
            nn.init.constant_(module.get_parameter(name), 0.1)
        return module

    checkpoint = CheckpointSpec(missing=("weight_ih_l0",))
    assert codes(lambda: nn.GRU(1, 1), lenient, checkpoint) == []


def test_tensors_without_memory_of_their_own_do_not_crash():
    """A wrapper subclass: its address is null."""

    class Wrapper(torch.Tensor):
        @staticmethod
        def __new__(cls, inner):
            return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

        def __init__(self, inner):
            self.inner = inner

        def __tensor_flatten__(self):
            return ["inner"], None

        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            def inner(value):
                return value.inner if isinstance(value, Wrapper) else value

            out = function(*map(inner, args), **(kwargs or {}))
            same_shape = isinstance(out, torch.Tensor) and function is not torch.ops.aten.equal
            return Wrapper(out) if same_shape else out

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.register_buffer("wrapped", Wrapper(torch.ones(3)), persistent=False)

    assert codes(Holder, eager) == []


def test_a_loader_that_deletes_a_given_file_is_found(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(2)}, path)

    def deletes(build, path, device):
        module = eager(build, path, device)
        path.unlink()
        return module

    with pytest.raises(CheckpointMismatch, match="CKPT701"):
        Checker().check(deletes, checkpoint=path)


def test_a_format_of_folders_is_watched_as_well():
    def save(module, path):
        path.mkdir()
        torch.save(module.state_dict(), path / "weights.pt")

    def scribbles(build, path, device):
        module = eager(build, path / "weights.pt", device)
        (path / "weights.pt").write_bytes(b"")
        return module

    with pytest.raises(CheckpointMismatch, match="CKPT701"):
        Checker(Defaults(max_examples=0)).check(scribbles, build=linear, save=save)


def test_a_check_that_judges_nothing_says_so():
    with pytest.raises(ValueError, match="nothing was judged: there is no case for"):
        Checker(Defaults(max_examples=0)).check(
            eager, build=lambda: nn.PReLU(1), features=["views"]
        )


def test_resuming_a_model_that_cannot_train_says_so():
    def frozen():
        return linear().requires_grad_(False)

    with pytest.raises(ValueError, match="resuming takes a parameter that can be trained"):
        Checker(Defaults(max_examples=0)).check_resume(eager_resume, build=frozen)


@pytest.mark.parametrize("build", [nn.ReLU, lambda: nn.LazyLinear(3)])
def test_a_factory_without_anything_to_load_is_refused(build):
    with pytest.raises(ValueError, match=r"without a parameter or buffer|lazy parameters"):
        Checker().check(eager, build=build)


def test_a_learning_rate_that_is_not_restored_is_found():
    def state_alone(build, make_optimizer, path, device):
        payload = torch.load(path, map_location=device, weights_only=True)
        module = build()
        module.load_state_dict(payload["model"])
        optimizer = make_optimizer(module)
        fresh = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({**payload["optimizer"], "param_groups": fresh})
        return module, optimizer

    with pytest.raises(CheckpointMismatch) as caught:
        Checker(Defaults(max_examples=0)).check_resume(state_alone)
    assert {finding.code for finding in caught.value.findings} == {"CKPT504"}


def test_loaders_may_keep_what_they_read_by_path_and_time():
    kept = {}

    def cached(build, path, device):
        key = path, path.stat().st_mtime_ns, path.stat().st_ino
        if key not in kept:
            kept[key] = torch.load(path, weights_only=True)
        module = build()
        module.load_state_dict(kept[key])
        return module

    assert Checker(Defaults(max_examples=5)).check(cached).examples > 5


def test_loaders_may_hang_attributes_on_a_module():
    def annotated(build, path, device):
        module = eager(build, path, device)
        module.aa_cache = [torch.ones(2), *module.parameters()]
        return module

    def annotated_resume(*arguments):
        module, optimizer = eager_resume(*arguments)
        module.aa_cache = [torch.ones(2), *module.parameters()]
        return module, optimizer

    checker = Checker(Defaults(max_examples=5))
    assert checker.check(annotated).examples > 5
    assert checker.check_resume(annotated_resume).examples > 5


@pytest.mark.parametrize("payload", ["state_dict", "prefixed"])
def test_a_wrapped_file_of_another_shape_may_be_ignored_by_whoever_is_not_strict(payload):
    shaped = {"weight": TensorSpec(shape=(2, 2))}
    if payload == "prefixed":
        checkpoint = CheckpointSpec(shaped, prefix="module.")
    else:
        checkpoint = CheckpointSpec(shaped, payload=payload)

    def cuts_to_fit(build, path, device):
        module = build()
        held = torch.load(path, weights_only=True)
        held = {k.removeprefix("module."): v for k, v in held.get("state_dict", held).items()}
        module.load_state_dict({**held, "weight": torch.zeros(3, 2)})
        return module

    assert codes(linear, loads_without_strict, checkpoint) == []
    assert codes(linear, loads_without_strict, checkpoint, promises=frozenset({"strict"})) == [
        "CKPT804"
    ]
    assert codes(linear, cuts_to_fit, checkpoint) == ["CKPT804"]


@pytest.mark.parametrize(
    "beyond", [{"extra": {"more": TensorSpec(shape=(1,))}}, {"missing": ("bias",)}]
)
def test_a_wrapped_file_with_other_names_is_ignored_as_a_whole_or_loaded_right(beyond):
    def lazy():
        return nn.LazyLinear(2)

    def unwraps(build, path, device, change=lambda tensor: tensor):
        module = build()
        held = torch.load(path, weights_only=True)["state_dict"]
        module.load_state_dict({name: change(held[name]) for name in held}, strict=False)
        return module

    def alters(build, path, device):
        return unwraps(build, path, device, torch.neg)

    shapes = {"weight": TensorSpec(shape=(2, 1)), "bias": TensorSpec(shape=(2,))}
    checkpoint = CheckpointSpec(shapes, payload="state_dict", **beyond)
    assert codes(lazy, loads_without_strict, checkpoint) == []
    assert codes(linear, unwraps, CheckpointSpec(payload="state_dict", **beyond)) == []
    wrong = codes(linear, alters, CheckpointSpec(payload="state_dict", **beyond))
    assert set(wrong) == {"CKPT101"}


class TiedBuffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("first", torch.ones(2))
        self.register_buffer("second", self.first)


def test_a_cast_unties_buffers_of_which_the_last_in_the_file_counts():
    def casts(build, path, device):
        return eager(build, path, device).to(torch.bfloat16)

    checkpoint = CheckpointSpec(ties="differ")
    assert codes(TiedBuffers, casts, checkpoint, dtype=torch.bfloat16) == []
    assert codes(TiedBuffers, eager, checkpoint, dtype=torch.bfloat16) != []


@pytest.mark.parametrize("shares", [False, True], ids=["one", "two-of-one-memory"])
def test_what_a_cast_of_the_whole_module_unties_may_stay_tied(shares):
    def casts(build, path, device):
        module = eager(build, path, device)
        module.first = module.first.to(torch.bfloat16)
        module.second = module.first.detach() if shares else module.first
        return module

    def ties(build, path, device):
        module = casts(build, path, device)
        module.third = module.first
        return module

    class Three(TiedBuffers):
        def __init__(self):
            super().__init__()
            self.register_buffer("third", torch.ones(2))

    assert codes(TiedBuffers, casts, dtype=torch.bfloat16) == []
    assert "CKPT402" in codes(Three, ties, dtype=torch.bfloat16)


def test_what_a_cast_of_the_whole_module_takes_apart_may_stay_one_memory():
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Parameter(torch.ones(6))
            self.q = nn.Parameter(self.qkv.detach()[:2])

    def casts(build, path, device):
        module = eager(build, path, device)
        module.qkv.data = module.qkv.data.to(torch.bfloat16)
        module.q.data = module.qkv.data[:2]
        return module

    assert codes(Fused, casts, dtype=torch.bfloat16) == []
    assert codes(Fused, casts, CheckpointSpec(ties="separate"), dtype=torch.bfloat16) == []


def test_which_nan_a_step_leaves_is_nobodys_fault():
    """It hangs on the strides, which a loader may take from the file or from the module."""
    module = ModuleSpec(
        "Conv3d",
        {"in_channels": 2, "out_channels": 2, "kernel_size": 2, "bias": False},
        edits=(Edit("channels_last", {"name": "weight"}),),
    )
    case = Case(module, CheckpointSpec({"weight": TensorSpec(values=((0, "nan-payload"),))}))
    found = examine(case, mmap_stream, CPU, Demands(dtype=torch.bfloat16)).findings
    assert [finding.code for finding in found if not finding.advice] == []


def test_a_part_of_a_fused_weight_keeps_its_strides_whatever_the_file_has():
    class Interleaved(nn.Module):
        def __init__(self):
            super().__init__()
            self.fused = nn.Parameter(torch.zeros(6))
            self.odd = nn.Parameter(self.fused.detach()[1::2])

    checkpoint = CheckpointSpec({"odd": TensorSpec(form="expanded")})
    assert codes(Interleaved, eager, checkpoint) == []


def test_bytes_that_are_no_bool_are_the_same_bytes_without_their_file(tmp_path):
    module = nn.Module()
    flags = torch.tensor([0, 7, 255], dtype=torch.uint8).view(torch.bool)
    module.register_buffer("flags", flags)
    path = tmp_path / "checkpoint.pt"
    torch.save(module.state_dict(), path)
    assert after_deleting(module, path, tmp_path / "held.pt").changed == ()


def test_a_frozen_part_of_a_trained_weight_is_not_written_to():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.fused = nn.Parameter(torch.zeros(2))
            self.part = nn.Parameter(self.fused.detach()[:1], requires_grad=False)
            self.rest = nn.Parameter(self.fused.detach()[1:])

    assert codes(Frozen, eager) == []


@pytest.mark.parametrize("features", [["load-hooks", "nested"], ["extra-state", "nested"]], ids=str)
def test_a_wrapped_file_that_was_ignored_still_has_the_modules_own_code_run(features):
    checker = Checker(Defaults(seed=0, max_examples=40))
    checker.check(loads_without_strict, features=features)


def test_nobody_steps_what_a_reference_of_the_users_own_has_overlapping():
    checker = Checker(Defaults(max_examples=0, features=("expanded", "views")))
    assert checker.check(meta_assign, reference=meta_assign).examples > 1


def test_the_file_that_takes_anothers_place_is_written_as_the_first_was():
    """A loader may refuse what is no state dict with its metadata."""

    def refuses_plain_dicts(build, path, device):
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, OrderedDict) or not hasattr(state, "_metadata"):
            raise TypeError("no state dict")
        module = build()
        module.load_state_dict(state)
        return module

    assert codes(linear, refuses_plain_dicts) == []


def test_a_second_load_that_raises_is_not_told_to_be_an_old_file():
    kept = []

    def once(build, path, device):
        kept.append(path.read_bytes())
        if kept[0] != kept[-1]:
            raise ValueError("another file")
        return eager(build, path, device)

    (finding,) = examine(Case(None), once, CPU, Demands(), Subject(linear)).findings
    assert (finding.code, finding.place) == ("CKPT705", "the next load")
    assert "does not go with the next" in finding.cause


def copies_in_alphabetical_order(build, path, device):
    """As files of other formats have their entries."""
    state = torch.load(path, map_location=device, weights_only=True)
    module = eager(build, path, device)
    for name, tensor in sorted(module.state_dict().items()):
        tensor.copy_(state[name])
    return module


def test_names_that_overlap_may_be_copied_in_any_order():
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Parameter(torch.ones(6))
            self.q = nn.Parameter(self.qkv.detach()[:2])
            self.unlike = nn.Parameter(self.qkv.detach()[4:])

    separate = CheckpointSpec(ties="separate")
    assert codes(Fused, copies_in_alphabetical_order, separate) == []
    checker = Checker(Defaults(seed=0, max_examples=40))
    checker.check(copies_in_alphabetical_order, features=["view-parameter", "expanded"])

    def leaves_the_first(build, path, device):
        module = copies_in_alphabetical_order(build, path, device)
        nn.init.ones_(module.q)
        return module

    assert codes(Fused, leaves_the_first, separate) == ["CKPT101", "CKPT104"]


# --- where warnings are errors, as they are here


class Beta(nn.Linear):
    """A module that warns of the files that it is given."""

    def __init__(self):
        super().__init__(2, 2)

    def _load_from_state_dict(self, *arguments):
        warnings.warn("this format (beta) will change", FutureWarning, stacklevel=1)
        super()._load_from_state_dict(*arguments)


def test_what_eager_loading_warns_of_is_nobodys_fault(tmp_path):
    def saves_it_all(module, path):
        torch.save(module, path)

    def loads_it_all(build, path, device):
        return torch.load(path, map_location=device, weights_only=False)

    torch.save(Beta().state_dict(), tmp_path / "beta.pt")
    checker = Checker(Defaults(seed=0, isolation="off"))
    checker.check(eager, build=Beta)
    checker.check(eager, build=Beta, checkpoint=tmp_path / "beta.pt")
    checker.check(loads_it_all, build=Beta, save=saves_it_all)
    checker.check_resume(eager_resume, build=Beta)


def test_what_torch_warns_of_while_it_reads_is_nobodys_fault(tmp_path, monkeypatch):
    """As it warns of sparse tensors since 2.14 (pytorch/pytorch#184750)."""
    torch.save(linear().state_dict(), tmp_path / "linear.pt")
    load = torch.load

    def warns(*arguments, **named):
        warnings.warn("reading this takes long", UserWarning, stacklevel=2)
        return load(*arguments, **named)

    monkeypatch.setattr(torch, "load", warns)
    checker = Checker(Defaults(seed=0, isolation="off"))
    checker.check(eager, build=linear)
    checker.check(eager, build=linear, checkpoint=tmp_path / "linear.pt")
    checker.check(eager, checkpoint=tmp_path / "linear.pt")


def test_what_a_loader_alone_warns_of_is_raised_where_the_caller_says_so():
    def warns(build, path, device):
        module = eager(build, path, device)
        warnings.warn("this format will change", FutureWarning, stacklevel=1)
        return module

    with pytest.raises(CheckpointMismatch, match=r"CKPT803 load-failed\n.*FutureWarning: this"):
        Checker(Defaults(seed=0, isolation="off")).check(warns, build=Beta)
