"""Loads in a worker look to a session as loads in its own process do, and end with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_ckptload.options import ISOLATIONS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

TALKS = """
    import logging
    import sys
    import warnings

    import pytest
    from pytest_ckptload.recipes import eager

    def load(build, path, device):
        print("said by the load")
        print("complained by the load", file=sys.stderr)
        warnings.warn("warned by the load")
        logging.getLogger("library").warning("logged by the load")
        return eager(build, path, device)

    def check(ckptload):
        ckptload.check(load, features=["scalar"], max_examples=0)
"""


@pytest.fixture
def run(pytester):
    def run(*arguments, **keywords):
        return pytester.runpytest_subprocess("-p", "no:benchmark", *arguments, **keywords)

    return run


@pytest.fixture
def run_here(pytester):
    """For what a session makes of its workers, and not of the process that it is alone in."""

    def run(*arguments):
        return pytester.runpytest_inprocess("-p", "no:benchmark", *arguments)

    return run


@pytest.fixture(params=["worker", "off"])
def isolation(request):
    return f"--ckptload-isolation={request.param}"


# --- what loads say


@pytest.mark.parametrize("capture", ["fd", "sys", pytest.param("tee-sys", marks=pytest.mark.slow)])
def test_what_a_load_says_is_captured(pytester, run_here, isolation, capture):
    pytester.makepyfile(
        TALKS
        + """
    def test_fails(ckptload):
        check(ckptload)
        assert 0
"""
    )
    result = run_here(isolation, f"--capture={capture}", "-Wdefault")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*Captured stdout call*",
            "said by the load",
            "*Captured stderr call*",
            "complained by the load",
            "*Captured log call*",
            "WARNING *library:*logged by the load",
            "*UserWarning: warned by the load",
        ]
    )


def test_fixtures_see_what_a_load_says(pytester, run_here, isolation):
    pytester.makepyfile(
        TALKS
        + """
    def test_sees(ckptload, capsys, caplog):
        with pytest.warns(UserWarning, match="warned by the load"):
            check(ckptload)
        out, err = capsys.readouterr()
        assert "said by the load" in out
        assert "complained by the load" in err
        assert "logged by the load" in caplog.text

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_sees_descriptors(ckptload, capfd):
        check(ckptload)
        assert "said by the load" in capfd.readouterr().out

    @pytest.mark.filterwarnings("error::UserWarning")
    def test_an_error_of_a_warning(ckptload):
        with pytest.raises(AssertionError, match="CKPT803 load-failed"):
            check(ckptload)
"""
    )
    run_here(isolation).assert_outcomes(passed=3)


def test_nothing_is_captured_where_nobody_wants_it(pytester, run, isolation):
    pytester.makepyfile(TALKS + "    def test_talks(ckptload): check(ckptload)\n")
    result = run(isolation, "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*said by the load"])
    result.stderr.fnmatch_lines(["*complained by the load"])


def test_what_was_said_before_a_death_is_there(pytester, run_here):
    pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.parametrize("way", ["print", "write"])
        def test_dies(ckptload, way):
            def dies(build, path, device):
                print("last words") if way == "print" else os.write(1, b"last words\\n")
                os.abort()

            ckptload.check(dies)
        """
    )
    for capture in ("fd", "sys"):
        result = run_here(f"--capture={capture}")
        result.assert_outcomes(failed=2)
        result.stdout.fnmatch_lines(["*CKPT801 process-died*", "last words"])
        result.stdout.no_fnmatch_line("*Fatal Python error*")


@pytest.mark.parametrize("arguments", [(), pytest.param(("-n1",), marks=pytest.mark.slow)])
def test_coverage_is_that_of_a_session_without_workers(pytester, run, isolation, arguments):
    pytester.makepyfile(
        library="""
            from pytest_ckptload.recipes import eager

            def load(build, path, device):
                module = eager(build, path, device)
                if module is None:
                    raise ValueError
                return module
        """,
        test_library="""
            from library import load

            def test_load(ckptload):
                ckptload.check(load, features=["scalar"], max_examples=2)
        """,
    )
    result = run(isolation, "--cov=library", "--cov-branch", "--cov-report=term", *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["library.py * 6 * 1 * 2 * 1 * 75%"])
    assert [p.name for p in pytester.path.glob(".coverage*")] == [".coverage"]


# --- ends


def alive(folder):
    """The other processes that work in a folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink() == folder and int(link.parent.name) != os.getpid():
                found.append((link.parent / "cmdline").read_bytes())
        except OSError:
            continue
    return found


def started(pytester, source, *arguments):
    """A session of one test in a process of its own, once its loader says that it runs."""
    pytester.makepyfile(source)
    session = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-s", "-p", "no:benchmark", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=pytester.path,
        env=os.environ | {"TMPDIR": str(pytester.mkdir("temporary"))},
        # What runs in the background ignores interrupts, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (pytester.path / "running").exists():
        assert time.monotonic() < deadline, session.communicate(timeout=5)
        time.sleep(0.02)
    return session


SLEEPS = """
    import pathlib
    import subprocess
    import time

    def sleeps(build, path, device):
        subprocess.Popen(["sleep", "300"])
        pathlib.Path("running").touch()
        time.sleep(300)

    def test_sleeps(ckptload):
        ckptload.check(sleeps)
"""


@pytest.mark.parametrize(
    "to", [signal.SIGINT, signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_nothing_outlives_a_session_that_is_ended(pytester, to):
    # What the loader itself started outlives pytest where pytest has no time to end it.
    starts = 'subprocess.Popen(["sleep", "300"])'
    session = started(pytester, SLEEPS if to == signal.SIGINT else SLEEPS.replace(starts, "pass"))
    session.send_signal(to)
    try:
        output, _ = session.communicate(timeout=20)
    finally:
        session.kill()
    deadline = time.monotonic() + 5
    while alive(pytester.path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(pytester.path) == []
    if to == signal.SIGINT:
        assert session.returncode == pytest.ExitCode.INTERRUPTED
        assert "KeyboardInterrupt" in output
        assert not list((pytester.path / "temporary").iterdir())


@pytest.mark.parametrize("option", ["-x", pytest.param("--maxfail=2", marks=pytest.mark.slow)])
def test_nothing_outlives_a_session_that_gives_up(pytester, run, monkeypatch, option):
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("temporary")))
    pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.parametrize("n", range(4))
        def test_dies(ckptload, n):
            ckptload.check(lambda build, path, device: os.abort())
        """
    )
    result = run(option)
    result.assert_outcomes(failed=1 if option == "-x" else 2)
    assert alive(pytester.path) == []
    left = [p for p in (pytester.path / "temporary").iterdir() if "pytest-of" not in p.name]
    assert left == []
    assert not list(pytester.path.glob("core*"))


# --- where loads run


def test_the_options_are_those_of_the_worker():
    assert ISOLATIONS == ("auto", "worker", "off")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "isolation worker"),
        (("--ckptload-isolation=worker",), "isolation worker"),
        (("--ckptload-isolation=off",), "isolation off"),
        (("--pdb",), "isolation off"),
        (("--pdb", "--ckptload-isolation=worker"), "isolation worker"),
    ],
)
def test_the_header_says_where_loads_run(run_here, arguments, said):
    result = run_here("--ckptload", "ckptload::eager::scalar", *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"ckptload: torch *, 1 device (cpu), {said}"])


def test_a_debugger_is_in_the_process_of_the_load(pytester, run):
    pytester.makepyfile(
        """
        import os

        here = os.getpid()

        def load(build, path, device):
            assert os.getpid() == here
            raise ValueError("in the load")

        def test_load(ckptload):
            ckptload.check(load)
        """
    )
    command = (sys.executable, "-m", "pytest", "-p", "no:benchmark", "--pdb")
    result = pytester.run(*command, stdin=b"c\n")
    result.stdout.fnmatch_lines(["*ValueError: in the load*"])


def test_the_ini_keys_are_heard(pytester, run_here):
    pytester.makeini(
        "[pytest]\nckptload_isolation = off\nckptload_timeout = 5\nckptload_memory = 1GB"
    )
    run_here("--ckptload", "ckptload::eager::scalar").stdout.fnmatch_lines(["*isolation off"])


def test_a_limit_beyond_the_machine_is_no_limit(run_here):
    run_here("--ckptload", "ckptload::eager::scalar", "--ckptload-memory=900TB").assert_outcomes(
        passed=1
    )


def test_a_check_in_a_given_test_has_workers_too(pytester, run_here):
    pytester.makepyfile(
        """
        import os

        from hypothesis import given, settings, strategies as st
        from pytest_ckptload.recipes import eager

        here = os.getpid()

        @settings(max_examples=5, deadline=None)
        @given(size=st.integers(1, 3))
        def test_given(ckptload, size):
            def load(build, path, device):
                assert os.getpid() != here
                return eager(build, path, device)

            ckptload.check(load, features=["scalar"], max_examples=0)
        """
    )
    run_here().assert_outcomes(passed=1)


# --- twenty at once

TWENTY = """
    import ctypes
    import os
    import signal
    import sys
    import threading
    import time

    import pytest
    import torch
    from pytest_ckptload.recipes import eager

    def segfault(*_): ctypes.string_at(0)
    def abort(*_): os.abort()
    def kill(*_): os.kill(os.getpid(), signal.SIGKILL)
    def terminate(*_): os.kill(os.getpid(), signal.SIGTERM)
    def bus_error(build, path, device):
        state = torch.load(path, mmap=True, weights_only=True)
        os.truncate(path, 0)
        return {name: tensor.clone() for name, tensor in state.items()}
    def float_error(*_): os.kill(os.getpid(), signal.SIGFPE)
    def overflow(*_):
        threading.stack_size(32768 * 4)
        ctypes.PyDLL(None).qsort(ctypes.c_void_p(8), 9, 9, ctypes.c_void_p(8))
    def exit_0(*_): os._exit(0)
    def exit_7(*_): os._exit(7)
    def exit_native(*_): ctypes.CDLL(None)._exit(5)
    def sleep(*_): time.sleep(600)
    def spin(*_):
        while True: pass
    def lock(*_):
        held = threading.Lock()
        held.acquire(), held.acquire()
    def hold_gil(*_): ctypes.PyDLL(None).sleep(600)
    def join(*_): threading.Thread(target=time.sleep, args=(600,)).run()
    def ignore_signals(*_):
        for number in (signal.SIGABRT, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)
    def grow(*_):
        kept = []
        while True: kept.append(b"x" * 10_000_000)
    def tensors(*_):
        kept = []
        while True: kept.append(torch.ones(2_500_000))
    def read_zero(*_):
        with open("/dev/zero", "rb") as file: file.read()
    def leave(*_): sys.exit(3)

    BAD = [
        segfault, abort, kill, terminate, bus_error, float_error, overflow, exit_0, exit_7,
        exit_native, sleep, spin, lock, hold_gil, join, ignore_signals, grow, tensors, read_zero,
        leave,
    ]

    @pytest.mark.parametrize("load", BAD, ids=lambda load: load.__name__)
    def test_bad(ckptload, load): ckptload.check(load)

    @pytest.mark.parametrize("number", range(3))
    def test_good(ckptload, number): ckptload.check(eager, features=["tied", "scalar"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("-n2",)])
def test_twenty_bad_loaders_are_twenty_failures(pytester, run, arguments):
    pytester.makepyfile(TWENTY)
    start = time.monotonic()
    result = run("--ckptload-timeout=2", "--ckptload-memory=300MB", *arguments)
    took = time.monotonic() - start
    result.assert_outcomes(failed=20, passed=3)
    codes = re.findall(r"^E +(CKPT80[1238]) ", result.stdout.str(), re.MULTILINE)
    counted = {code: codes.count(code) for code in sorted(set(codes))}
    assert counted == {"CKPT801": 10, "CKPT802": 6, "CKPT803": 1, "CKPT808": 3}
    # Six that hang: the limit once, and a second for each of two more cases.
    assert took < 6 * (2 + 1 + 1) + 45
    assert alive(pytester.path) == []
