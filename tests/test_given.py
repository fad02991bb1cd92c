"""A checkpoint of the user's own: its checksums are verified, before the load and after it."""

from __future__ import annotations

import os

import pytest
import torch

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
