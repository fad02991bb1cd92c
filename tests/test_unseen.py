"""Modules that are hard to look at: observed as far as can be, and what cannot be is said."""

from __future__ import annotations

import threading
import weakref

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_ckptload.case import Case
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.examine.pipeline import examine
from pytest_ckptload.examine.reference import Demands
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.observe import observe
from pytest_ckptload.recipes import eager

CPU = torch.device("cpu")


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.more()

    def more(self):
        pass


class Nested(Base):
    def more(self):
        parts = [torch.ones(2, device="cpu"), torch.ones(3, device="cpu")]
        self.register_buffer("odd", torch.nested.nested_tensor(parts), persistent=False)


class Jagged(Base):
    def more(self):
        parts = [torch.ones(2, device="cpu"), torch.ones(3, device="cpu")]
        self.odd = torch.nested.nested_tensor(parts, layout=torch.jagged)


class Fake(Base):
    def more(self):
        with FakeTensorMode():
            self.odd = torch.ones(3)


class Sparse(Base):
    def more(self):
        self.register_buffer("odd", torch.eye(3, device="cpu").to_sparse(), persistent=False)


class Functional(Base):
    def more(self):
        self.odd = torch._to_functional_tensor(torch.ones(3, device="cpu"))


class RaisesOnAccess(Base):
    @property
    def bad(self):
        raise RuntimeError("a property with a side effect")

    def __getattr__(self, name):
        if name == "weight" or name.startswith("_"):
            return super().__getattr__(name)
        raise RuntimeError("no attribute is asked for here")


class Crowded(Base):
    """Cycles, locks, generators and weak references, and tensors among them."""

    def more(self):
        self.lock, self.generator = threading.Lock(), (i for i in range(3))
        self.reference, self.cycle = weakref.ref(self), {"weight": self.weight}
        self.cycle["cycle"] = self.cycle
        self.bytes = torch.frombuffer(bytearray(12), dtype=torch.float32)


def verdict(build, loader=eager):
    return examine(Case(), loader, CPU, Demands(), Subject(build))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize(
    ("build", "note"),
    [
        (Nested, "odd (a nested tensor: neither its contents nor its memory)"),
        (Jagged, "odd (a nested tensor: neither its contents nor its memory)"),
        (Fake, "odd (a fake tensor: neither its contents nor its memory)"),
        (Sparse, "odd (torch.sparse_coo: not its memory)"),
        (Functional, "odd (a wrapper: not its memory)"),
    ],
)
def test_what_cannot_be_observed_is_said(build, note):
    judged = verdict(build)
    assert judged.findings == ()
    assert judged.notes == (f"not observed: {note}",)


@pytest.mark.parametrize("build", [RaisesOnAccess, Crowded])
def test_all_of_the_others_is_observed(build):
    judged = verdict(build)
    assert judged.findings == ()
    assert judged.notes == ()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("build", [Nested, Fake])
def test_that_it_is_gone_is_seen_all_the_same(build):
    def deletes(build, path, device):
        module = eager(build, path, device)
        del module.odd
        return module

    assert "CKPT301" in [finding.code for finding in verdict(build, deletes).findings]


def test_it_is_said_in_the_report_of_a_check():
    report = Checker(Defaults(max_examples=2)).check(eager, build=Fake)
    assert report.notes == (
        "not observed: odd (a fake tensor: neither its contents nor its memory)",
    )


class Counts(Base):
    def more(self):
        self.register_buffer("odd", torch.zeros(2, dtype=torch.int64), persistent=False)


def test_what_nobody_can_write_to_is_left_alone():
    """A buffer of inference mode is found, or where the reference has one as well, it is none."""

    def for_inference(build, path, device):
        module = eager(build, path, device)
        with torch.inference_mode():
            module.odd = module.odd.clone()
        return module

    assert [f.code for f in verdict(Counts, for_inference).findings] == ["CKPT210"]
    same = Demands(reference=for_inference)
    assert examine(Case(), for_inference, CPU, same, Subject(Counts)).findings == ()


class Rows(Base):
    def more(self):
        self.register_buffer("odd", torch.eye(3, device="cpu").to_sparse_csr())


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly:UserWarning")
def test_a_tensor_that_nobody_can_read_any_more_is_said():
    def gives_other_data(build, path, device):
        module = eager(build, path, device)
        module.odd.data = module.odd.to(torch.bfloat16)
        return module

    (finding,) = verdict(Rows, gives_other_data).findings
    assert finding.code == "CKPT301"
    what = "a tensor of torch.bfloat16 that holds values of torch.float32"
    assert finding.evidence == f"{what}, expected a buffer that can be read"


def test_a_fake_tensor_in_the_place_of_another_is_found():
    def stays_fake(build, path, device):
        module = eager(build, path, device)
        with FakeTensorMode():
            module.weight = nn.Parameter(torch.ones(3))
        return module

    with pytest.raises(CheckpointMismatch) as caught:
        Checker(Defaults(max_examples=0)).check(stays_fake, build=Crowded)
    assert caught.value.findings[0].code == "CKPT301"
    assert "weight: a fake tensor, expected a parameter that can be read" in caught.value.report
    assert "loaded.weight.to_dense().tolist()" in caught.value.script


class SavesNested(Base):
    def more(self):
        parts = [torch.ones(2, device="cpu"), torch.ones(3, device="cpu")]
        layout = torch.jagged if self.jagged else torch.strided
        self.register_buffer("odd", torch.nested.nested_tensor(parts, layout=layout))

    jagged = False


class SavesJagged(SavesNested):
    jagged = True


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize(
    ("build", "error"),
    [
        (SavesNested, "NestedTensorImpl doesn't support sizes"),
        (SavesJagged, r"Error\(s\) in loading state_dict for SavesJagged: size mismatch for odd"),
    ],
)
def test_what_the_reference_cannot_load_itself_is_said_in_a_sentence(build, error):
    """Torch copies no nested tensors into each other, or checks their shapes before."""
    none = f"nothing was judged: the reference itself loads none of .*{error}"
    with pytest.raises(ValueError, match=none):
        Checker(Defaults(max_examples=0)).check(eager, build=build)


def test_a_module_that_holds_itself_is_walked_once():
    module = Base()
    module._modules["me"] = module
    assert list(observe(module).parts) == [""]


def sets(kind, name, value):
    def change(module):
        for part in module.modules():
            if isinstance(part, kind):
                setattr(part, name, value)

    return change


def zeroes_the_padding(module):
    for part in module.modules():
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight.data[part.padding_idx] = 0


def drops_the_last_piece(size):
    """What is behind the last whole piece of so many bytes is not read."""

    def change(module):
        for parameter in module.parameters():
            flat = parameter.data.view(torch.uint8).view(-1) if parameter.dim() > 1 else None
            if flat is not None and len(flat) > size:
                flat[len(flat) - len(flat) % size :] = 0

    return change


@pytest.mark.parametrize(
    ("change", "code", "features"),
    [
        (sets(nn.RMSNorm, "eps", None), "CKPT901", ["settings"]),
        (sets(nn.GroupNorm, "eps", 1e-5), "CKPT901", ["settings"]),
        (sets(nn.BatchNorm1d, "eps", 1e-5), "CKPT901", ["settings"]),
        (sets(nn.Conv1d, "padding_mode", "zeros"), "CKPT901", ["settings"]),
        (zeroes_the_padding, "CKPT101", ["settings"]),
        (drops_the_last_piece(1 << 16), "CKPT101", []),
        (drops_the_last_piece(1 << 20), "CKPT101", []),
    ],
)
def test_what_few_modules_show_is_among_the_fixed_cases(change, code, features):
    def load(build, path, device):
        module = eager(build, path, device)
        change(module)
        return module

    with pytest.raises(CheckpointMismatch) as caught:
        Checker(Defaults(max_examples=0)).check(load, features=features)
    assert {finding.code for finding in caught.value.findings} == {code}


def test_what_is_kept_of_one_kind_of_tensor_is_found():
    kept = {}

    def load(build, path, device):
        module = eager(build, path, device)
        for part in module.modules():
            if isinstance(getattr(part, "steps", None), torch.Tensor):
                part.steps = kept.setdefault(path, part.steps)
        return module

    with pytest.raises(CheckpointMismatch, match="CKPT403 loads-share-memory"):
        Checker(Defaults(max_examples=0)).check(load, features=["buffer-scalar"])
