"""Each kind of damage does what it says, and what torch's own recipes make of it is known.

Every load runs in a forked child: a load that kills its process fails a test, not the session.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pytest_ckptload.case import Case, Damage
from pytest_ckptload.damage import DAMAGES, damaged, describe, watched
from pytest_ckptload.damage.cuts import boundaries
from pytest_ckptload.damage.layout import layout_of, packed, records_of
from pytest_ckptload.recipes import RECIPES
from pytest_ckptload.strategies import covering

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

RELEASE = tuple(map(int, torch.__version__.split(".")[:2]))
LIMIT = 20
CLIMBED = "ckptload-climbed-out"
HOSTILE = [name for name, kind in DAMAGES.items() if kind.hostile]
ALTERED = {name: kind.alter for name, kind in DAMAGES.items() if kind.alter is not None}

# What a load makes of a file, at one place or another: it refuses, or the module holds what was
# saved ("same"), or something else ("other").
EAGER = {
    "truncated": {"refuses"},
    "emptied": {"refuses"},
    "truncated-at-record": {"refuses"},
    "directory": {"refuses"},
    "data": {"other"},
    "directory-bit": {"refuses", "same"},
    "local-header": {"refuses", "same", "other"},  # a length in it moves the data
    "pickle": {"refuses", "same", "other"},
    "end-record": {"refuses", "same"},
    "end-record-64": {"refuses", "same"},
    "record-removed": {"refuses", "same"},
    "record-doubled": {"refuses", "same", "other"},
    "records-reordered": {"same"},
    "archive-before": {"other"},
    "archive-behind": {"same"},
    "climbing": {"refuses"},
    "climbing-inside": {"same"},
    "record-short": {"refuses"},
    "size-larger": {"refuses"},
    "size-smaller": {"refuses"},
    "sizes-larger": {"refuses"},
    "local-sizes": {"same"},
    "zip-bomb": {"refuses"},
    "storage-larger": {"refuses"},
    "storage-absurd": {"refuses"},
    "pickle-nested": {"refuses"},
    "special-folder": {"refuses"},
    "special-pipe": {"refuses"},
    "special-zero": {"refuses"},
    **{kind: {"refuses"} for kind in HOSTILE},
}

# Where mapping answers otherwise than eager loading: (eager, mapped). Mapping looks neither at the
# size of a record nor at whether it is deflated, and reads on in whatever lies behind.
MAPPED = {
    "local-header": {("refuses", "other"), ("refuses", "same"), ("other", "same")},
    "record-short": {("refuses", "other")},
    "sizes-larger": {("refuses", "same")},
    "zip-bomb": {("refuses", "other")},
    "storage-larger": {("refuses", "same")},
    "storage-absurd": {("refuses", "same")},
}


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(2, 2)


def saved() -> dict[str, torch.Tensor]:
    return OrderedDict(
        weight=torch.tensor([[1.0, -2.0], [3.0, -4.0]]), bias=torch.tensor([5.0, -6.0])
    )


def write(path: Path) -> bytes:
    torch.save(saved(), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file as torch writes it: it holds its own name, so it has the same one everywhere."""
    return write(tmp_path_factory.mktemp("original") / "checkpoint.pt")


def held(module: nn.Module) -> list[int]:
    flat = [t.detach().float().contiguous().view(-1) for t in module.state_dict().values()]
    numbers: list[int] = torch.cat(flat).view(torch.int32).tolist()
    return numbers


def outcome(recipe: str, damage: Damage, folder: Path) -> str:
    """What one load makes of a damaged file: "refuses", "same", or "other" and what it holds."""
    path = folder / "checkpoint.pt"
    write(path)
    with watched(path) as marks, damaged(path, damage):
        try:
            values = held(RECIPES[recipe](build, path, torch.device("cpu")))
        except Exception:
            answer = "refuses"
        else:
            # The numbers are the same in bfloat16, which one recipe casts to.
            wanted = torch.cat([t.view(-1) for t in saved().values()]).view(torch.int32).tolist()
            answer = "same" if values == wanted else f"other {values}"
        assert marks.executed() is None
        assert marks.climbed() == []
    return answer


def in_child(work: Callable[[int], str], items: Iterable[int]) -> dict[int, str]:
    """``work`` on each item, in a forked child, and in another one when that dies."""
    left, answers = list(items), {}
    while left:
        before = len(left)
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that threads do not survive a fork
            child = os.fork()
        if child == 0:
            _work(work, left, writer)
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as lines:
            for line in lines:
                answers[left.pop(0)] = json.loads(line)
        _, status = os.waitpid(child, 0)
        if left:
            number = os.WTERMSIG(status)
            died = f"died of {signal.Signals(number).name}" if number else "ended"
            answers[left.pop(0)] = died
        assert len(left) < before
    return answers


def _work(work: Callable[[int], str], items: list[int], writer: int) -> None:
    code = 1
    try:
        torch.set_num_threads(1)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for item in items:
                signal.alarm(LIMIT)
                try:
                    answer = work(item)
                except BaseException as error:
                    answer = f"{type(error).__name__}: {error}"
                os.write(writer, (json.dumps(answer) + "\n").encode())
        code = 0
    finally:
        os._exit(code)


def loads(recipe: str, damages: list[Damage], folder: Path) -> list[str]:
    def work(number: int) -> str:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            return outcome(recipe, damages[number], Path(name))

    answers = in_child(work, range(len(damages)))
    return [answers[number] for number in range(len(damages))]


def tried(kind: str) -> list[Damage]:
    """The places of a kind that are tried here: of a bit's, which are many, every fourth."""
    places = DAMAGES[kind].places
    return [Damage(kind, where) for where in (places[::4] if len(places) >= 60 else places)]


# --- what the recipes make of it -----------------------------------------------------------------


def test_every_kind_is_in_the_table() -> None:
    special = {"special-pipe", "special-zero"}
    assert EAGER.keys() - DAMAGES.keys() <= special
    assert DAMAGES.keys() - EAGER.keys() == set()


@pytest.mark.skipif(RELEASE < (2, 13), reason="the table is of torch 2.13")
@pytest.mark.parametrize("kind", DAMAGES)
def test_what_recipes_make_of_it(kind: str, tmp_path: Path) -> None:
    damages = tried(kind)
    eager = loads("eager", damages, tmp_path)
    met = {answer.partition(" ")[0] for answer in eager}
    assert met <= EAGER[kind], eager
    assert met != {"same"} or EAGER[kind] == {"same"}, "it has no effect anywhere"
    mapped = loads("mmap_meta_assign", damages, tmp_path)
    unlike = {
        (left.partition(" ")[0], right.partition(" ")[0])
        for left, right in zip(eager, mapped, strict=True)
        if left != right
    }
    assert unlike <= MAPPED.get(kind, set())
    assert unlike or kind not in MAPPED or len(damages) > 15


@pytest.fixture(scope="module")
def cuts(original: bytes) -> list[Damage]:
    """The file cut off at every 1 % and wherever a record, or a part of one, begins or ends."""
    count = len(boundaries(original))
    return [
        *(Damage("truncated", percent / 100) for percent in range(100)),
        *(Damage("truncated-at-record", (place + 0.5) / count) for place in range(count)),
    ]


@pytest.mark.parametrize("recipe", RECIPES)
def test_files_cut_off_anywhere_are_refused_by_every_recipe(
    recipe: str, cuts: list[Damage], tmp_path: Path
) -> None:
    answers = loads(recipe, cuts, tmp_path)
    assert {a: cut for a, cut in zip(answers, cuts, strict=True) if a != "refuses"} == {}


# --- the files -----------------------------------------------------------------------------------


def test_an_archive_without_damage_is_what_torch_wrote(original: bytes) -> None:
    assert packed(records_of(original)) == original


@pytest.mark.parametrize("kind", ALTERED)
def test_each_place_changes_the_file_and_does_so_the_same_way(kind: str, original: bytes) -> None:
    alter = ALTERED[kind]
    for where in DAMAGES[kind].places if not DAMAGES[kind].slow else (0.5,):
        made = alter(original, where)
        assert made != original, f"{kind} at {where} leaves the file as it is"
        assert made == alter(original, where)


@pytest.mark.parametrize("kind", ALTERED)
def test_any_place_will_do(kind: str, original: bytes) -> None:
    for where in (0.0, 0.1234, 0.999999):
        assert ALTERED[kind](original, where) != original


@pytest.mark.parametrize("kind", ALTERED)
def test_a_checkpoint_without_any_data_can_be_damaged_too(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"empty": torch.empty(0)}, path)
    assert isinstance(ALTERED[kind](path.read_bytes(), 0.5), bytes)


def test_every_boundary_is_one(original: bytes) -> None:
    places = boundaries(original)
    layout = layout_of(original)
    assert len(places) >= 4 * len(layout.entries) - 1
    assert places[-1] == layout.end_record
    cut = {len(ALTERED["truncated-at-record"](original, n / 64)) for n in range(64)}
    assert cut == set(places)


def test_a_file_is_cut_off_at_every_percent(original: bytes) -> None:
    assert sorted(DAMAGES["truncated"].places) == [n / 100 for n in range(100)]
    assert DAMAGES["truncated"].places[0] == 0.5
    assert len(ALTERED["truncated"](original, 0.25)) == len(original) // 4


def test_a_bomb_is_small_until_it_is_inflated(original: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    path.write_bytes(ALTERED["zip-bomb"](original, 0.0))
    assert path.stat().st_size < 2**17
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert max(info.file_size for info in archive.infolist()) == 64 * 2**20


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_kind_is_described(kind: str) -> None:
    for where in DAMAGES[kind].places:
        text = describe(Damage(kind, where))
        assert text
        assert "{" not in text
        assert text == text.strip().rstrip(".")
        # Then "accepted a file that was …" is a line of a script.
        assert len(text) <= 50


def test_descriptions_say_where() -> None:
    assert describe(Damage("truncated", 0.37)) == "cut off at 37% of its size"


def test_a_kind_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no damage 'dropped' on this system"):
        describe(Damage("dropped"))
    path = tmp_path / "checkpoint.pt"
    before = write(path)
    with pytest.raises(ValueError, match="there is no damage"), damaged(path, Damage("dropped")):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_survives_json(kind: str) -> None:
    for damage in tried(kind):
        assert Damage.from_dict(json.loads(json.dumps(damage.as_dict()))) == damage


# --- what stands in a file's place ---------------------------------------------------------------


def pipes() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "ckptload-pipe"]


@pytest.mark.skipif("special-pipe" not in DAMAGES, reason="this system has no pipes with names")
@pytest.mark.parametrize("readers", [0, 1, 3])
def test_a_pipe_ends_for_every_reader_and_so_does_its_thread(readers: int, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    write(path)
    open_files = set(Path("/proc/self/fd").iterdir()) if sys.platform == "linux" else set()
    with damaged(path, Damage("special-pipe")):
        assert path.is_fifo()
        assert len(pipes()) == 1
        assert [path.read_bytes() for _ in range(readers)] == [b""] * readers
    assert pipes() == []
    if open_files:
        assert set(Path("/proc/self/fd").iterdir()) <= open_files


@pytest.mark.skipif("special-pipe" not in DAMAGES, reason="this system has no pipes with names")
def test_a_pipe_that_was_deleted_ends_too(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    write(path)
    with damaged(path, Damage("special-pipe")):
        path.unlink()
    assert pipes() == []


def test_a_folder_in_a_files_place(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    write(path)
    with damaged(path, Damage("special-folder")):
        assert path.is_dir()


@pytest.mark.skipif("special-zero" not in DAMAGES, reason="this system has no /dev/zero")
def test_a_device_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    write(path)
    with damaged(path, Damage("special-zero")), path.open("rb") as file:
        assert file.read(10**5) == bytes(10**5)


# --- hostile files -------------------------------------------------------------------------------


def trusting(kind: str, folder: Path) -> str:
    """What a load without care makes of a hostile file, and the mark that it leaves."""
    path = folder / "checkpoint.pt"
    write(path)
    with watched(path) as marks, damaged(path, Damage(kind)):
        assert marks.executed() is None
        try:
            state: Any = torch.load(path, weights_only=False)
        except Exception:
            same = "refuses"
        else:
            wanted = saved()
            equal = list(state) == list(wanted) and all(
                torch.equal(state[name], tensor) for name, tensor in wanted.items()
            )
            same = "same" if equal else "other"
        executed = marks.executed()
    return f"{same}: {executed} {sorted(p.name for p in folder.iterdir())}"


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_leave_their_mark_where_they_are_trusted(kind: str, tmp_path: Path) -> None:
    (answer,) = in_child(lambda _: trusting(kind, tmp_path), [0]).values()
    mark = "`__hello__` was imported" if kind == "hostile-import" else "the mark file was written"
    result, _, rest = answer.partition(": ")
    assert rest == f"{mark} ['checkpoint.pt']"
    # The bare pickle is no file of torch's, which finds that out too late.
    assert result == ("refuses" if kind == "hostile-legacy" else "same")


# --- marks ---------------------------------------------------------------------------------------


def test_no_mark_is_no_news_and_all_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CKPTLOAD_MARK", "mine")
    module = object()
    monkeypatch.setitem(sys.modules, "__hello__", module)
    with watched(tmp_path / "checkpoint.pt") as marks:
        assert marks.executed() is None
        assert marks.climbed() == []
        assert Path(os.environ["CKPTLOAD_MARK"]).parent == tmp_path
        assert "__hello__" not in sys.modules
    assert os.environ["CKPTLOAD_MARK"] == "mine"
    assert sys.modules["__hello__"] is module


def test_a_written_mark_is_found_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CKPTLOAD_MARK", raising=False)
    with watched(tmp_path / "checkpoint.pt") as marks:
        Path(os.environ["CKPTLOAD_MARK"]).touch()
        assert marks.executed() == "the mark file was written"
    assert "CKPTLOAD_MARK" not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_an_imported_module_is_found_and_forgotten(tmp_path: Path) -> None:
    with watched(tmp_path / "checkpoint.pt") as marks:
        sys.modules["__hello__"] = sys
        assert marks.executed() == "`__hello__` was imported"
    assert "__hello__" not in sys.modules


@pytest.mark.parametrize("kind", ["climbing", "climbing-inside"])
def test_what_a_naive_unpacker_leaves_is_found_and_removed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a" / "b" / "c" / "d" / "e"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    path = folder / "checkpoint.pt"
    write(path)
    with watched(path) as marks, damaged(path, Damage(kind)):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                # ``extractall`` would take the dots away.
                place = Path(os.path.normpath(folder / name))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(archive.read(name))
        found = marks.climbed()
        assert marks.climbed() == []
    assert {place.name for place in found} == {CLIMBED}
    assert {place.parent for place in found} == {folder.parents[depth] for depth in range(3)}
    assert not list(tmp_path.rglob(CLIMBED))


def test_what_was_left_before_is_charged_to_nobody(tmp_path: Path) -> None:
    (tmp_path / CLIMBED).touch()
    (tmp_path / "checkpoint.pt.mark").touch()
    with watched(tmp_path / "checkpoint.pt") as marks:
        assert marks.executed() is None
        assert marks.climbed() == []
    assert list(tmp_path.iterdir()) == []


def test_a_working_folder_may_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with watched(tmp_path / "checkpoint.pt") as marks:
        assert marks.climbed() == []


def test_files_of_other_names_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / f"{CLIMBED}.txt"
    other.touch()
    with watched(tmp_path / "a" / "checkpoint.pt") as marks:
        assert marks.climbed() == []
    assert other.exists()


# --- where cases have it -------------------------------------------------------------------------


def test_the_covering_set_has_every_kind_but_the_slow_ones() -> None:
    kinds = [case.checkpoint.damage for case in covering(features=["damaged", "hostile"])]
    met = {damage.kind for damage in kinds if damage is not None}
    assert met == {name for name, kind in DAMAGES.items() if not kind.slow}
    assert len(kinds) < 2 * len(DAMAGES)


def test_a_hostile_case_is_not_damaged_besides() -> None:
    for case in covering(features=["damaged", "hostile"]):
        assert len(set(case.features) & {"damaged", "hostile"}) == 1


def test_cases_with_damage_survive_json() -> None:
    for case in chain(covering(features=["damaged"]), covering(features=["hostile"])):
        assert Case.from_json(case.to_json()) == case
