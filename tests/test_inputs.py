"""Bad input gets one clear sentence that names the value and the choices."""

from __future__ import annotations

import os
import zipfile

import pytest
import torch
from torch import nn

from pytest_ckptload.case import Case
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.recipes import eager, mmap
from pytest_ckptload.zoo import FEATURES


@pytest.fixture(scope="module")
def checker():
    return Checker(Defaults(max_examples=0))


def linear():
    return nn.Linear(1, 1)


def sentence(call, kind):
    """The message of the error that ``call`` raises: one line."""
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- loaders


def raises(build, path, device):
    raise RuntimeError("disk on fire")


@pytest.mark.parametrize(
    ("loader", "code", "evidence"),
    [
        (raises, "CKPT803", "RuntimeError: disk on fire"),
        (lambda build, path, device: None, "CKPT807", "returned None; if it cannot do this device"),
        (lambda build, path, device: 3, "CKPT807", "returned a builtins.int"),
        (lambda build, path, device: nn.Bilinear(1, 1, 1), "CKPT301", "another module"),
    ],
    ids=["raises", "none", "no module", "another module"],
)
def test_a_loader_that_does_not_load(checker, loader, code, evidence):
    with pytest.raises(CheckpointMismatch) as caught:
        checker.check(loader, features=["scalar"])
    assert caught.value.findings[0].code == code
    assert evidence in caught.value.findings[0].evidence


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (3, "a loader is a callable load(build, path, device), not 3"),
        (lambda path: path, "cannot be called as load(build, path, device)"),
        (lambda build, path, device, extra: 0, "missing a required argument: 'extra'"),
    ],
)
def test_what_cannot_be_called_as_a_loader(checker, loader, message):
    assert message in sentence(lambda: checker.check(loader), TypeError)


def test_of_an_error_that_is_told_at_length_the_end_is_shown_as_well(checker):
    def load(build, path, device):
        raise RuntimeError(f"ranks: [0], traceback: {'File x, ' * 100} KeyError: bits8")

    with pytest.raises(CheckpointMismatch) as caught:
        checker.check(load, features=["scalar"])
    evidence = caught.value.findings[0].evidence
    assert len(evidence) < 340
    assert evidence.startswith("RuntimeError: ranks: [0], traceback: File x, ")
    assert evidence.endswith("File x, KeyError: bits8")


def test_a_save_that_fails_is_named(checker):
    def save(module, path):
        torch.save(module.state_dict(), path / "model.pt")

    text = sentence(
        lambda: checker.check(eager, build=lambda: nn.Linear(1, 1), save=save), ValueError
    )
    assert "save=save failed: RuntimeError: Parent directory" in text
    assert "(there is nothing yet at the path that it is given: it makes a file there" in text


def test_what_cannot_be_called_as_a_resumer(checker):
    text = sentence(lambda: checker.check_resume(eager), TypeError)
    assert "cannot be called as load(build, make_optimizer, path, device)" in text


# --- factories


class Counting:
    """A factory that is different each time."""

    def __init__(self, make):
        self.make, self.calls = make, 0
        self.__qualname__ = "counting"

    def __call__(self):
        self.calls += 1
        return self.make(self.calls)


def with_buffer(value):
    module = nn.Linear(1, 1)
    module.register_buffer("offset", torch.tensor(float(value)), persistent=False)
    return module


ONE = nn.Linear(1, 1)


class Unsavable(nn.Linear):
    def __init__(self):
        super().__init__(1, 1)

    def get_extra_state(self):
        return lambda: None  # no pickle takes a function without a name

    def set_extra_state(self, state):
        pass


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (3, TypeError, "build= is a callable that makes a module, not 3"),
        (lambda size: nn.Linear(size, 1), TypeError, "must take no arguments: missing a required"),
        (lambda: 1 // 0, ValueError, "failed: ZeroDivisionError: integer division"),
        (lambda: "module", TypeError, "returned a str, not an nn.Module"),
        (lambda: ONE, ValueError, "returned the same module twice"),
        (Counting(lambda n: nn.Linear(n, 1)), ValueError, "different names, shapes or dtypes"),
        (Counting(with_buffer), ValueError, "gave 'offset', which no checkpoint holds, different"),
        (nn.ReLU, ValueError, "made a module without a parameter or buffer to load"),
        (lambda: nn.Linear(1, 1, device="meta"), ValueError, "made a module on meta: it must be"),
        (Unsavable, ValueError, "whose '_extra_state' cannot be saved: "),
        (lambda: nn.LazyLinear(1), ValueError, "lazy parameters, which have no shape yet"),
    ],
    ids=[
        *("number", "arguments", "fails", "no module", "same", "shapes", "values"),
        *("no state", "elsewhere", "not saved", "lazy"),
    ],
)
def test_a_factory_that_does_not_make_modules(checker, build, kind, message):
    text = sentence(lambda: checker.check(eager, build=build), kind)
    assert message in text
    assert text.startswith("build=")


def test_a_factory_may_draw_from_torchs_generator(checker):
    def build():
        module = nn.Linear(1, 1)
        module.register_buffer("noise", torch.rand(2), persistent=False)
        return module

    assert checker.check(eager, build=build).examples > 5


def test_a_factory_whose_module_the_reference_cannot_load(checker):
    class Stubborn(nn.Linear):
        def _load_from_state_dict(self, *args):
            raise RuntimeError("not me")

    text = sentence(lambda: checker.check(eager, build=lambda: Stubborn(1, 1)), ValueError)
    assert "nothing was judged: the reference itself loads none of the files for" in text
    assert "RuntimeError: not me" in text


# --- files


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(1, 1), "bias": torch.ones(1)}, path)
    return path


def test_a_file_that_is_not_there(checker, tmp_path):
    text = sentence(lambda: checker.check(mmap, checkpoint=tmp_path / "no.pt"), FileNotFoundError)
    assert "no.pt' does not exist" in text


def test_a_folder(checker, tmp_path):
    assert "is not a file" in sentence(lambda: checker.check(mmap, checkpoint=tmp_path), ValueError)


def test_an_empty_file(checker, file):
    file.write_bytes(b"")
    assert "is empty" in sentence(lambda: checker.check(mmap, checkpoint=file), ValueError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(checker, file):
    file.chmod(0)
    text = sentence(lambda: checker.check(mmap, checkpoint=file), PermissionError)
    assert "cannot be read" in text


def test_no_checkpoint(checker, file):
    file.write_text("hello")
    text = sentence(lambda: checker.check(mmap, checkpoint=file), ValueError)
    assert "is not a checkpoint that torch.load(weights_only=True) reads" in text


def test_a_checkpoint_that_would_run_code(checker, file, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "mark"),)

    torch.save({"weight": Hostile()}, file)
    text = sentence(lambda: checker.check(mmap, checkpoint=file), ValueError)
    assert "is not a checkpoint" in text
    assert not (tmp_path / "mark").exists()


def test_a_file_without_a_state_dict(checker, file):
    torch.save({"epoch": 3, "a": {"x": torch.ones(1)}, "b": {"x": torch.ones(1)}}, file)
    text = sentence(lambda: checker.check(mmap, checkpoint=file), ValueError)
    assert "state dicts under ['a', 'b']" in text


def test_a_bit_flipped_in_tensor_data_is_found_by_its_checksum(checker, file):
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        record = next(r for r in archive.infolist() if "/data/0" in r.filename)
        start = data.index(b"\x00\x00\x80\x3f")
    data[start] ^= 1
    file.write_bytes(data)
    text = sentence(lambda: checker.check(mmap, checkpoint=file), ValueError)
    assert f"its record {record.filename!r} does not have the checksum" in text


def test_a_name_that_is_tensor_and_module_at_once(checker, file):
    torch.save({"a": torch.ones(1), "a.b": torch.ones(1)}, file)
    text = sentence(lambda: checker.check(mmap, checkpoint=file), ValueError)
    assert "a tensor and a module at once" in text


# --- names and contradictions


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            {"features": ["tide"]},
            ValueError,
            "there is no feature 'tide'; there are: alias-attribute, ",
        ),
        ({"without": ["tide"]}, ValueError, "there is no feature 'tide'"),
        ({"promises": ["strikt"]}, ValueError, "there is no promise 'strikt'; there are: strict, "),
        ({"allow": {"CKPT999": "why"}}, ValueError, "there is no rule 'CKPT999'; the nearest"),
        ({"devices": ["gpu:7"]}, ValueError, "there is no device 'gpu:7' here; there are: cpu"),
        (
            {"semantics": "move"},
            ValueError,
            "there is no semantics 'move'; there are: assign, copy",
        ),
        ({"max_examples": -1}, ValueError, "max_examples=-1: expected a whole number"),
        ({"dtype": "half"}, TypeError, "dtype='half': expected a torch.dtype"),
        (
            {"dtype": torch.half, "semantics": "copy"},
            ValueError,
            "dtype=torch.float16 and semantics='copy' contradict each other",
        ),
        ({"save": torch.save}, ValueError, "save= writes a module that build= makes"),
        (
            {"build": linear, "features": ["tied"]},
            ValueError,
            "feature 'tied' is one of modules, and the module is given: choose from ",
        ),
    ],
)
def test_names_and_contradictions(checker, arguments, kind, message):
    assert message in sentence(lambda: checker.check(eager, **arguments), kind)


def test_one_name_is_as_good_as_a_list_of_one(checker):
    assert set(checker.check(eager, features="tied").features) == {"tied"}


def test_a_case_for_a_module_of_the_users_is_not_replayed_without_it():
    checker = Checker(Defaults(replay=Case()))
    text = sentence(lambda: checker.check(eager), ValueError)
    assert "made for a given build=" in text


def test_features_of_checkpoints_apply_to_a_given_model_and_leave_it_as_it_is(checker):
    made = []

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(3, 2)
            self.head = nn.Linear(2, 3, bias=False)
            self.head.weight = self.embedding.weight
            self.norm = nn.BatchNorm1d(2)
            self.conv = nn.Conv2d(2, 2, 2)
            made.append(self)

    report = checker.check(eager, build=Model, promises={"robust", "formats"})
    of_files = {name for name, feature in FEATURES.items() if feature.of == "checkpoint"}
    # Conjugates need complex tensors, and a tied name that is missing is a case of its own.
    assert of_files - set(report.features) <= {"metadata-stripped"}
    assert min(report.features.values()) >= 5
    assert all(set(module.state_dict()) == set(made[0].state_dict()) for module in made)
    first = made[0].state_dict()
    assert torch.equal(first["norm.running_mean"], torch.zeros(2))  # the one that all look at
    assert made[0].head.weight is made[0].embedding.weight
