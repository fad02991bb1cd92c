"""Devices other than the CPU, on one that is real: ``annex``, in processes of their own."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pytest_ckptload.machine import accelerator, devices

TESTS = Path(__file__).parent


def run(folder, *arguments, timeout=600):
    """Run Python on these arguments with ``annex`` at hand."""
    modules = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    # Where ninja is, in an environment that was not activated.
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": modules, "PATH": programs, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="session")
def annex(tmp_path_factory):
    """Runs pytest with the second device, which is compiled where it was not yet."""
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip("there is no C++ compiler: the second device cannot be built")
    folder = tmp_path_factory.mktemp("annex")
    built = run(folder, "-W", "ignore", "-c", "import annex")
    assert built.returncode == 0, built.stderr[-4000:]

    def pytest_with_annex(*arguments):
        return run(folder, "-m", "pytest", "-p", "annex", "-p", "ckptload", "-q", *arguments)

    return pytest_with_annex


def test_what_is_shown_inside(annex):
    result = annex(str(TESTS / "annex" / "inside.py"), "-p", "no:cacheprovider", "-c", os.devnull)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]


def test_the_whole_suite_on_the_second_index_of_a_second_device(annex):
    # At the end of a session that goes by files, where one process waits for this one.
    result = annex("--ckptload", "--ckptload-devices=annex:1", "-n", "2")
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    passed, xfailed = re.search(r"(\d+) passed, (\d+) xfailed", result.stdout).groups()
    assert int(passed) > 300
    assert int(xfailed) > 60


def test_devices_of_a_project_join_through_the_hook(annex, tmp_path):
    (tmp_path / "conftest.py").write_text(
        "def pytest_ckptload_devices(config):\n    return ['annex:0', 'cpu']\n"
    )
    result = annex(str(tmp_path), "--ckptload", "--collect-only", "--ckptload-features=tied")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("mmap::tied[") == 3  # nothing twice


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ("'cpu'", "pytest_ckptload_devices: expected a list of devices, not 'cpu'"),
        ("[1]", "pytest_ckptload_devices: expected devices, not 1"),
        ("['meta']", "device 'meta' cannot be used: there is nothing to compare on it"),
        ("['nowhere:0']", "device 'nowhere:0' cannot be used: Expected one of"),
        ("['mps']", "device 'mps' cannot be used: "),
    ],
)
def test_what_is_no_device_is_told_in_one_sentence(pytester, returned, sentence):
    pytester.makeconftest(f"def pytest_ckptload_devices(config):\n    return {returned}\n")
    result = pytester.runpytest_inprocess("-p", "no:benchmark", "--ckptload", "--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{sentence.replace('[', '[[]')}*"])


def test_devices_of_xla_are_found_where_it_is_installed(tmp_path, monkeypatch):
    (tmp_path / "torch_xla.py").write_text("def device_count():\n    return 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [str(d) for d in devices.available()] == ["cpu", "xla:0", "xla:1"]
    del sys.modules["torch_xla"]  # as `monkeypatch` would put it back
    (tmp_path / "torch_xla.py").write_text("raise OSError('libtpu.so is missing')\n")
    importlib.invalidate_caches()
    with pytest.warns(RuntimeWarning, match="XLA devices are left out: OSError: libtpu.so is mis"):
        assert [str(d) for d in devices.available()] == ["cpu"]


@pytest.mark.parametrize("number", [0, 2])
def test_accelerators_of_torch_before_2_6_are_found(number, monkeypatch):
    monkeypatch.setattr(accelerator, "_KNOWN", False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("cuda"))
    found = [f"cuda:{index}" for index in range(number)]
    assert accelerator.accelerator() == (torch.device("cuda") if number else None)
    assert accelerator.count() == number
    assert [str(device) for device in devices.available()] == ["cpu", *found]
    accelerator.synchronise(torch.device("cuda:1"))
    assert waited == ["cuda"]
