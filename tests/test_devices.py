"""Devices other than the CPU, on one that is real: ``annex``, in processes of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    result = annex("--ckptload", "--ckptload-devices=annex:1")
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    passed, xfailed = re.search(r"(\d+) passed, (\d+) xfailed", result.stdout).groups()
    assert int(passed) > 300
    assert int(xfailed) > 60
