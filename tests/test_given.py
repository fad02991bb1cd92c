"""A checkpoint of the user's own: its checksums are verified, before the load and after it."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.recipes import eager


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.arange(1000.0), "bias": torch.ones(10)}, path)
    return path


def check(loader, file, isolation="auto"):
    return Checker(Defaults(isolation=isolation)).check(loader, checkpoint=file)


def flipped(file):
    """The file with one bit of a tensor flipped, which torch does not notice."""
    data = bytearray(file.read_bytes())
    data[data.index(b"\x00\x00\x80?\x00\x00\x00@") + 2] ^= 1
    return bytes(data)


@pytest.mark.parametrize("isolation", ["worker", "off"])
def test_checksums_are_verified_and_it_says_so(file, isolation):
    (note,) = check(eager, file, isolation).notes
    size = file.stat().st_size / 1e6
    assert note == f"the checksums of the 8 records in weights.pt ({size:.3g} MB) are right"


@pytest.mark.parametrize("isolation", ["worker", "off"])
def test_a_flipped_bit_is_told(file, isolation):
    file.write_bytes(flipped(file))
    torch.load(file, weights_only=True)
    with pytest.raises(ValueError, match="its record 'weights/data/0' does not have the checksum"):
        check(eager, file, isolation)


def test_a_file_without_checksums_is_told(file):
    torch.save(torch.load(file), file, _use_new_zipfile_serialization=False)
    (note,) = check(eager, file).notes
    assert note == "weights.pt is no zip archive: it has no checksums to verify"


def test_a_loader_that_alters_the_file_and_covers_its_tracks(file):
    before = file.read_bytes()

    def alters(build, path, device):
        module = eager(build, path, device)
        status = path.stat()
        path.write_bytes(flipped(path))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return module

    with pytest.raises(CheckpointMismatch, match="CKPT701 file-changed"):
        check(alters, file)
    file.write_bytes(before)
    assert check(eager, file).examples == 1


def test_it_is_told_in_the_summary(file, pytester):
    result = pytester.runpytest_inprocess(
        "-p", "no:benchmark", f"--ckptload-checkpoint={file}", "--ckptload-loader=eager"
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*= ckptload: note =*", "the checksums of the 8 records in weights.pt (*) are right"]
    )
    file.write_bytes(flipped(file))
    result = pytester.runpytest_inprocess(
        "-p", "no:benchmark", f"--ckptload-checkpoint={file}", "--ckptload-loader=eager"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["checkpoint='*weights.pt' is damaged: its record *"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_memory_stays_flat_while_it_is_verified(tmp_path):
    from pytest_ckptload.examine.given import verified
    from pytest_ckptload.examine.progress import resident

    path = tmp_path / "large.pt"
    torch.save({"weight": torch.zeros(25_000_000)}, path)
    before = resident(os.getpid())
    assert "(100 MB)" in verified(path)
    assert resident(os.getpid()) - before < 20_000_000


class Scaled(nn.Module):
    """What a file of other names, or with one in parts, is loaded into."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)


RENAMED = {"module.inner.weight": torch.ones(3, 3), "module.inner.bias": torch.arange(3.0)}
QUANTISED = {"inner.weight": torch.arange(9).view(3, 3), "scale": torch.tensor(0.5)}


def renaming(build, path, device):
    state = torch.load(path, map_location=device, weights_only=True)
    module = build().to(device)
    module.load_state_dict(
        {name.removeprefix("module."): value for name, value in state.items()}, strict=False
    )
    return module


def dequantising(build, path, device):
    state = torch.load(path, map_location=device, weights_only=True)
    module = build().to(device)
    with torch.no_grad():
        module.inner.weight.copy_(state["inner.weight"] * state["scale"])
    return module


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.outer = nn.Linear(3, 3)
        self.outer.weight = self.inner.weight


CONTRADICTING = {"inner.weight": torch.zeros(3, 3), "outer.weight": torch.ones(3, 3)}


def unties(build, path, device):
    module = build().to(device)
    module.outer.weight = nn.Parameter(torch.ones(3, 3, device=device))
    with torch.no_grad():
        module.inner.weight.zero_()
    return module


def loads_nothing(build, path, device):
    return build().to(device)


def skips_the_bias(build, path, device):
    module = renaming(build, path, device)
    nn.init.constant_(module.inner.bias, 7)
    return module


def draws_what_is_missing(build, path, device):
    """Libraries fill what a file lacks anew."""
    module = renaming(build, path, device)
    nn.init.normal_(module.norm.weight)
    return module


def given(tmp_path, loader, reference, state, build=Scaled):
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    return Checker().check(loader, build=build, checkpoint=path, reference=reference)


@pytest.mark.parametrize(
    ("loader", "reference", "state"),
    [
        (renaming, renaming, RENAMED),
        (draws_what_is_missing, renaming, RENAMED),
        (renaming, draws_what_is_missing, RENAMED),
        (dequantising, dequantising, QUANTISED),
    ],
)
def test_who_translates_as_the_reference_does_is_not_accused(tmp_path, loader, reference, state):
    assert given(tmp_path, loader, reference, state).examples == 1


def test_names_that_share_memory_and_contradict_each_other_have_several_right_values(tmp_path):
    assert given(tmp_path, unties, renaming, CONTRADICTING, Tied).examples == 1


@pytest.mark.parametrize(
    ("loader", "reference", "state", "found"),
    [
        (loads_nothing, renaming, RENAMED, {("CKPT104", n) for n in ("weight", "bias")}),
        (skips_the_bias, renaming, RENAMED, {("CKPT101", "bias")}),
        (renaming, dequantising, QUANTISED, {("CKPT101", "weight")}),
    ],
)
def test_what_the_reference_takes_from_entries_of_other_names_is_compared(
    tmp_path, loader, reference, state, found
):
    with pytest.raises(CheckpointMismatch) as caught:
        given(tmp_path, loader, reference, state)
    findings = caught.value.findings
    assert {(f.code, f.place) for f in findings} == {(c, f"inner.{n}") for c, n in found}
    assert all(f.evidence.endswith("(from the reference)") for f in findings)
    said = f"{loader.__name__} does not give the module that {reference.__name__} gives for weights"
    assert str(caught.value).startswith(said)


def test_of_the_one_case_that_a_given_file_is_nothing_is_said(file):
    def skips(build, path, device):
        return build().to(device)

    with pytest.raises(CheckpointMismatch, match="CKPT10") as caught:
        check(skips, file)
    assert "smallest case" not in str(caught.value)
