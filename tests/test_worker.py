"""Nothing that a loader does to its process reaches the session: it is reported, or undone."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch

from pytest_ckptload.case import Case, ModuleSpec
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.examine.pipeline import examine
from pytest_ckptload.examine.progress import Board, resident
from pytest_ckptload.examine.reference import Demands
from pytest_ckptload.faults.ending import saves_over_what_it_maps
from pytest_ckptload.finding import CheckpointMismatch, Verdict
from pytest_ckptload.recipes import eager, eager_resume
from pytest_ckptload.report.script import script
from pytest_ckptload.rules import Ending, judge
from pytest_ckptload.search import Budget, search
from pytest_ckptload.strategies import random_cases
from pytest_ckptload.worker import Limits, in_worker, isolated, isolation
from pytest_ckptload.worker.limits import free_memory

CPU = torch.device("cpu")
LINEAR = ModuleSpec("Linear", {"in_features": 1, "out_features": 1})
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
pytestmark = POSIX


def checker(**settings):
    return Checker(Defaults(**{"max_examples": 0, "isolation": "worker", **settings}))


def findings(loader, **settings):
    """What is found on a loader that is broken."""
    with pytest.raises(CheckpointMismatch) as caught:
        checker(**settings).check(loader, features=["scalar"])
    return caught.value


def children():
    """The processes that this one is waiting for, or could be: none, between checks."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(status.parent.name))
    return found


@pytest.fixture(autouse=True)
def nothing_is_left():
    before, files = set(children()), len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert set(children()) <= before, "a process is left"
    assert len(list(Path("/proc/self/fd").iterdir())) <= files, "a file or a pipe is left open"


# --- deaths


def crashes(build, path, device):
    ctypes.string_at(0)


def aborts(build, path, device):
    os.abort()


def is_killed(build, path, device):
    os.kill(os.getpid(), signal.SIGKILL)


def leaves(build, path, device):
    os._exit(3)


def closes_everything(build, path, device):
    os.closerange(3, 1000)
    return eager(build, path, device)


@pytest.mark.parametrize(
    ("loader", "evidence"),
    [
        (crashes, r"the process died of SIGSEGV during the load, in string_at \(.*\), called from"),
        (aborts, r"the process died of SIGABRT during the load, in aborts \(test_worker.py:\d+\)"),
        (is_killed, "the process died of SIGKILL during the load"),
        (leaves, "the process ended itself with status 3 during the load"),
        (closes_everything, "the process "),
    ],
)
def test_a_death_is_a_finding(loader, evidence):
    error = findings(loader)
    (finding,) = error.findings
    assert finding.code == "CKPT801"
    assert "CKPT801 process-died" in error.report
    assert re.search(evidence, finding.evidence), finding.evidence


def test_the_cause_of_a_bus_error_is_told():
    (finding,) = findings(saves_over_what_it_maps).findings
    assert "SIGBUS" in finding.evidence
    assert "saved over, while it was mapped" in finding.cause


def test_a_hang_is_a_finding_that_says_where():
    def hangs(build, path, device):
        time.sleep(60)

    start = time.monotonic()
    error = findings(hangs, timeout=0.5)
    assert time.monotonic() - start < 10
    (finding,) = error.findings
    assert finding.code == "CKPT802"
    assert "was not done after 0.5 s during the load, in hangs (test_worker.py:" in finding.evidence


def test_a_hang_that_holds_the_interpreter_is_one_too():
    def hangs(build, path, device):
        ctypes.PyDLL(None).sleep(60)

    assert findings(hangs, timeout=0.5).findings[0].code == "CKPT802"


def test_memory_is_limited():
    def grows(build, path, device):
        kept = []
        while True:
            kept.append(bytearray(b"x" * 10_000_000))

    (finding,) = findings(grows, memory=300_000_000).findings
    assert (finding.code, finding.rule) == ("CKPT808", "memory-exceeded")
    assert "took more than 300 MB during the load" in finding.evidence


def test_what_the_parent_holds_does_not_count():
    held = bytearray(b"x" * 400_000_000)
    checker(memory=300_000_000).check(eager, features=["scalar"])
    assert len(held) == 400_000_000


def test_dying_of_the_loaded_tensors_is_a_finding():
    def maps_and_truncates(build, path, device):
        module = build()
        module.load_state_dict(torch.load(path, mmap=True, weights_only=True), assign=True)
        os.truncate(path, 0)
        return module

    (finding,) = findings(maps_and_truncates).findings
    assert finding.code == "CKPT801"
    assert "SIGBUS when the loaded tensors were read" in finding.evidence


def test_a_resumer_may_die():
    def resume(build, make_optimizer, path, device):
        os.abort()

    with pytest.raises(CheckpointMismatch, match="CKPT801 process-died"):
        checker().check_resume(resume, features=["frozen"])


def test_a_death_is_shrunk_like_any_other():
    """Where the covering set shows nothing, Hypothesis finds it, and the smallest."""

    def crashes_on_two_features(build, path, device):
        names = {type(module).__name__ for module in build().modules()}
        if {"Scalar", "TwoNames"} <= names:
            os.abort()
        return eager(build, path, device)

    with pytest.raises(CheckpointMismatch) as caught:
        checker(max_examples=500, seed=1).check(
            crashes_on_two_features, features=["scalar", "tied", "frozen"]
        )
    assert caught.value.findings[0].code == "CKPT801"
    assert set(caught.value.case.features) >= {"scalar", "tied"}


def test_a_search_costs_ten_deaths_at_most():
    deaths = []

    def counted(case):
        if len(case.features) == 0 or (random and len(case.features) < 3):
            return Verdict(judged=True)
        deaths.append(case)
        return Verdict(tuple(judge(Ending("load", -11))), judged=True, died=True)

    random = True
    outcome = search(counted, [], random_cases(), Budget(200, seed=1))
    assert outcome.failure is not None
    assert not outcome.flaky
    assert len(deaths) == outcome.deaths == 10
    assert outcome.cut
    deaths.clear()
    random = False
    search(counted, [Case(LINEAR, features=("x",), seed=n) for n in range(9)], None, Budget(0))
    assert len(deaths) == 3


def test_a_script_shows_the_death(tmp_path):
    error = findings(saves_over_what_it_maps)
    program = tmp_path / "script.py"
    program.write_text(script(error.case, error.findings, saves_over_what_it_maps))
    ended = subprocess.run([sys.executable, program], capture_output=True)
    assert ended.returncode == -signal.SIGBUS


# --- replaced, and none the worse


def test_a_worker_is_replaced_and_its_folder_emptied(tmp_path):
    def examine(case, where):
        (where / f"{case.seed}").write_text("left")
        (tmp_path / "where").write_text(str(where))
        if case.seed == 1:
            os.abort()
        return Verdict(judged=True, refused=str(os.getpid()))

    with isolated(examine, "worker", CPU, Limits()) as asked:
        first, again = asked(Case(seed=0)).refused, asked(Case(seed=2)).refused
        assert first == again != str(os.getpid())
        assert asked(Case(seed=1)).died
        assert not list(Path((tmp_path / "where").read_text()).iterdir())
        assert asked(Case(seed=3)).refused not in (first, None)


def test_an_error_of_the_examination_is_raised_here_with_its_traceback(tmp_path):
    def examine(case, where):
        raise LookupError("in the examination")

    with isolated(examine, "worker", CPU, Limits()) as asked:
        with pytest.raises(LookupError, match="in the examination") as caught:
            asked(Case())
        assert "in examine" in str(caught.value.__cause__)


def test_an_error_that_cannot_be_sent_is_described(tmp_path):
    def examine(case, where):
        class Local(Exception):
            pass

        raise Local("of a class that nobody can import")

    with (
        isolated(examine, "worker", CPU, Limits()) as asked,
        pytest.raises(RuntimeError, match="Local: of a class that nobody can import"),
    ):
        asked(Case())


def test_an_interrupt_in_a_load_interrupts_the_session():
    # Python ignores it where a shell started it in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupts(build, path, device):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    try:
        with pytest.raises(KeyboardInterrupt):
            checker().check(interrupts)
    finally:
        signal.signal(signal.SIGINT, before)


def test_where_torch_itself_dies_nothing_is_judged():
    def reference(build, path, device):
        os.abort()

    with pytest.raises(ValueError, match=r"nothing was judged.*died of SIGABRT during the eager"):
        checker().check(eager, reference=reference, features=["scalar"])


def test_where_writing_dies_that_is_said():
    def save(module, path):
        os.abort()

    with pytest.raises(RuntimeError, match="while writing the checkpoint, the process died of"):
        checker().check(eager, build=lambda: torch.nn.Linear(1, 1), save=save)


def test_work_of_torchs_that_one_worker_imported_is_there_in_the_next():
    name = "torch.distributed.rpc.constants"
    sys.modules.pop(name, None)
    found = []

    def examine(case, where):
        found.append(name in sys.modules)
        __import__(name)
        return Verdict(judged=found[0])

    for known in (False, True):
        with isolated(examine, "worker", CPU, Limits()) as asked:
            assert asked(Case()).judged is known


def test_no_folder_is_emptied_that_was_not_empty(tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(ValueError, match="is not empty, and would be emptied: it holds precious"):
        examine(Case(LINEAR), eager, CPU, Demands(), where=tmp_path)
    assert (tmp_path / "precious").exists()


def test_a_death_deletes_nothing_of_the_users(tmp_path, monkeypatch):
    (tmp_path / "precious").touch()
    monkeypatch.chdir(tmp_path)
    for mode in ("worker", "auto"):
        findings(aborts, isolation=mode)
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


# --- what a loader does to its process


def forks_and_both_return(build, path, device):
    os.fork()
    return eager(build, path, device)


def starts_a_thread(build, path, device):
    threading.Thread(target=time.sleep, args=(30,)).start()
    return eager(build, path, device)


# Ten minutes, and like no other process on the machine.
SLEEP = ["sleep", f"600.{os.getpid()}"]


def starts_a_process(build, path, device):
    subprocess.Popen(SLEEP)
    return eager(build, path, device)


def uses_multiprocessing(build, path, device):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(abs, [-1]) == [1]
    return eager(build, path, device)


def closes_streams(build, path, device):
    sys.stdout.close()
    sys.stderr.close()
    return eager(build, path, device)


def closes_descriptors(build, path, device):
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    return eager(build, path, device)


def changes_folder(build, path, device):
    os.chdir("/")
    return eager(build, path, device)


def changes_environment(build, path, device):
    os.environ.clear()
    os.environ["CKPTLOAD_TEST"] = "1"
    return eager(build, path, device)


def changes_handlers(build, path, device):
    for name in ("SIGINT", "SIGTERM", "SIGABRT", "SIGALRM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    return eager(build, path, device)


UNDONE = [
    forks_and_both_return,
    closes_descriptors,
    closes_streams,
    changes_folder,
    changes_environment,
    changes_handlers,
]


@pytest.mark.parametrize("isolation", ["worker", "off"])
@pytest.mark.parametrize("loader", UNDONE, ids=lambda loader: loader.__name__)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_what_a_loader_changes_is_undone(loader, isolation):
    def state():
        handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGABRT)]
        streams = [os.fstat(n).st_ino for n in (0, 1, 2)]
        return Path.cwd(), dict(os.environ), handlers, streams, sys.stdout, sys.stderr

    before = state()
    report = checker(isolation=isolation).check(loader, features=["scalar", "frozen"])
    assert report.examples > 1
    assert state() == before
    print("still open")
    if isolation == "off" and loader is forks_and_both_return:
        for _ in children():
            os.wait()  # in this process, what a loader leaves behind is its own


@pytest.mark.parametrize("loader", [starts_a_thread, starts_a_process, uses_multiprocessing])
def test_what_a_loader_starts_ends_with_its_worker(loader):
    start = time.monotonic()
    checker().check(loader, features=["scalar"])
    assert time.monotonic() - start < 60  # nobody waited for what sleeps
    asleep = "".join(f"{part}\0" for part in SLEEP).encode()
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if _reads(p) == asleep]


def _reads(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


# --- where loads run


def test_a_worker_is_used_where_it_can_be(monkeypatch):
    assert in_worker("auto", CPU)
    assert in_worker("worker", CPU)
    assert not in_worker("off", CPU)
    assert not in_worker("worker", torch.device("meta"))
    monkeypatch.setattr(isolation, "accelerator", lambda: torch.device("cuda"))
    assert not in_worker("auto", CPU)
    assert in_worker("worker", CPU)
    monkeypatch.setattr(isolation, "accelerator", lambda: None)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not in_worker("auto", CPU)
    monkeypatch.delattr(os, "fork")
    assert not in_worker("auto", CPU)
    with pytest.raises(ValueError, match="isolation 'worker' needs fork"):
        in_worker("worker", CPU)


@pytest.mark.parametrize(("isolation", "apart"), [("auto", True), ("off", False)])
def test_loads_run_where_it_says(isolation, apart):
    seen = []

    def load(build, path, device):
        seen.append(os.getpid())
        return eager(build, path, device)

    checker(isolation=isolation).check(load, features=["scalar"])
    assert (seen == []) == apart


def test_closures_and_what_they_hold_are_there():
    held = {"calls": 0}

    def load(build, path, device):
        held["calls"] += 1
        assert held["calls"] < 100
        return eager(build, path, device)

    assert checker().check(load, features=["scalar", "frozen"]).examples > 1
    assert held["calls"] == 0


def test_resuming_runs_in_a_worker_too():
    here = os.getpid()

    def resume(*arguments):
        assert os.getpid() != here
        return eager_resume(*arguments)

    assert checker().check_resume(resume, features=["frozen"]).examples


# --- limits


def board(stage, **figures):
    made = Board()
    made._write(stage, figures.get("reference", 0.0), figures.get("slowest", 0.0), 0)
    return made


@pytest.mark.parametrize(
    ("limits", "what", "seconds"),
    [
        (Limits(), board("load"), 30),
        (Limits(), board("load", reference=60.0), 1200),
        (Limits(7), board("load", reference=60.0), 7),
        (Limits(), board("idle"), None),
        (Limits(), board("reading"), None),
        (Limits().after_a_hang(), board("load", slowest=0.001), 1),
        (Limits().after_a_hang(), board("load", slowest=0.5), 10),
        (Limits(0.5).after_a_hang(), board("load", slowest=0.001), 0.5),
        (Limits().after_a_hang(), board("load", slowest=10.0), 30),
        (Limits(0.5).after_a_hang(), board("training", slowest=0.001), 30),
    ],
)
def test_how_long_a_load_may_take(limits, what, seconds):
    assert limits.time(what) == seconds


def test_how_much_a_load_may_take():
    free = free_memory()
    assert 0 < free < 2**50
    assert Limits(memory=5).bytes() == 5
    assert 0.3 * free < Limits().bytes() < 0.7 * free
    assert Limits(roomy=True).bytes() is None


def test_mapped_pages_are_not_held(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 50_000_000)
    before = resident(os.getpid())
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        assert mapped[:: mmap.PAGESIZE].count(b"x") > 10_000
        assert resident(os.getpid()) - before < 10_000_000
    assert resident(2**22 + 1) is None


# --- fair to loaders that do it differently


def test_what_the_plugin_itself_imports_is_no_hang():
    """An optimizer's first use in a process imports for a second or two: not the loader's time."""
    code = (
        "from pytest_ckptload.checks import Checker, Defaults\n"
        "from pytest_ckptload.recipes import eager\n"
        "checker = Checker(Defaults(timeout=0.5, max_examples=0, isolation='worker'))\n"
        "checker.check(eager, features=['frozen'])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.PIPE)


def test_deprecations_are_seen():
    def deprecated(build, path, device):
        warnings.warn("of yesterday", DeprecationWarning, stacklevel=1)
        return eager(build, path, device)

    with pytest.deprecated_call(match="of yesterday"):
        checker().check(deprecated, features=["scalar"])


def test_classes_of_the_tests_own_arrive():
    class Own(UserWarning):
        pass

    class Failure(BaseException):
        pass

    def warns(build, path, device):
        warnings.warn("of its own class", Own, stacklevel=1)
        return eager(build, path, device)

    def save(module, path):
        raise Failure("of its own class")

    with pytest.warns(Own, match="of its own class"):
        checker().check(warns, features=["scalar"])
    with pytest.raises(Failure, match="of its own class"):
        checker().check(warns, build=lambda: torch.nn.Linear(1, 1), save=save)


def test_threads_may_be_asked_for():
    torch.rand(10**6).exp().sum()

    def threaded(build, path, device):
        torch.set_num_threads(2)
        torch.rand(10**6).exp().sum()
        return eager(build, path, device)

    assert checker(timeout=5).check(threaded, features=["scalar"]).examples


@pytest.mark.parametrize("isolation", ["worker", "off"])
def test_a_loader_may_skip_its_test(isolation):
    def skips(build, path, device):
        pytest.skip("no such format here")

    with pytest.raises(pytest.skip.Exception, match="no such format here"):
        checker(isolation=isolation).check(skips)


@pytest.mark.parametrize("isolation", ["worker", "off"])
def test_a_loader_that_deletes_its_file_is_told(isolation):
    def deletes(build, path, device):
        module = eager(build, path, device)
        path.unlink()
        return module

    error = findings(deletes, isolation=isolation)
    assert [f.code for f in error.findings] == ["CKPT701"]
    assert "it was deleted, or moved away" in error.report

    def resumes(build, make_optimizer, path, device):
        resumed = eager_resume(build, make_optimizer, path, device)
        path.unlink()
        return resumed

    with pytest.raises(CheckpointMismatch, match="CKPT701 file-changed"):
        checker(isolation=isolation).check_resume(resumes, features=["frozen"])


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [Mute, GeneratorExit, SystemExit, StopIteration])
def test_any_error_is_an_error(error):
    def raises(build, path, device):
        raise error

    (finding,) = findings(raises).findings
    assert finding.code == "CKPT803"
    assert error.__name__ in finding.evidence


def test_a_worker_that_grew_is_replaced():
    kept = []

    def examine(case, where):
        kept.append(bytearray(b"x" * 60_000_000))
        return Verdict(judged=True, refused=str(os.getpid()))

    with isolated(examine, "worker", CPU, Limits(memory=150_000_000)) as asked:
        processes = [asked(Case(seed=n)).refused for n in range(9)]
    assert 2 <= len(set(processes)) <= 5
