"""CKPT7xx: the checkpoint file, and the model's ties to it."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_ckptload.rules.facts import Aftermath, FileFacts, Lifetime, SecondLoad
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []


@rule(
    "CKPT701",
    "file-changed",
    FileFacts,
    statement="Neither loading nor training changes the checkpoint file.",
    explanation=(
        "The file is compared byte by byte after the load, and again after an optimizer "
        "stepped the "
        "loaded module."
    ),
    cause=(
        "The file is mapped with MAP_SHARED, so that writing to a tensor writes to the file, or "
        "the loader itself writes to it."
    ),
    fix=(
        "Map privately, which is torch's default: "
        "`torch.serialization.set_default_mmap_options(mmap.MAP_PRIVATE)`, or copy on load."
    ),
    references=("pytorch/rl#3966", "bghira/SimpleTuner#2714"),
)
def file_changed(facts: FileFacts) -> Iterator[Broken]:
    if facts.loaded is None and facts.written is not None:
        yield Broken("the file", "it was deleted, or moved away, while it was loaded")
    elif facts.loaded != facts.written:
        yield Broken("the file", "its bytes changed while it was loaded")
    elif facts.trained != facts.loaded:
        yield Broken("the file", "its bytes changed when an optimizer stepped the loaded module")


@rule(
    "CKPT702",
    "needs-its-file",
    Lifetime,
    statement="A loaded model does not need its file's name any more.",
    explanation=(
        "After the load the file is moved away and another is put in its place, as a download or a "
        "training run does that keeps one file. All tensors are read again, and the state dict is "
        "made. A map of the file as it was stays good, whatever its name stands for."
    ),
    cause="Something is read from the file's path after the load, when it is first used.",
    fix="Read it during the load, or keep the file open and read from that.",
    references=("vllm-project/vllm#32718", "huggingface/accelerate#938"),
)
def needs_its_file(life: Lifetime) -> Iterator[Broken]:
    if life.event == "deleted and replaced":
        yield from _broken(life)


@rule(
    "CKPT703",
    "follows-its-file",
    Lifetime,
    statement="With the promise *detached*, a model survives truncating and saving over its file.",
    explanation=(
        "A mapped file and the tensors are one memory. Saving over it in place changes the weights "
        "of every process that loaded them so, and truncating it kills each of them at the next "
        "touch. Only for a loader that promises otherwise this is a failure: mapping is what the "
        "others are for."
    ),
    cause="Tensors live in a map of the file.",
    fix=(
        "Copy what is to live longer than the file (`tensor.clone()`), or have whoever writes it "
        "write a new file and rename that (`os.replace`): the map keeps the old one."
    ),
    references=("meta-pytorch/torchtune#1018", "pytorch/rl#3966", "safetensors/safetensors#762"),
)
def follows_its_file(life: Lifetime) -> Iterator[Broken]:
    if life.event in ("saved over", "truncated"):
        yield from _broken(life)


@rule(
    "CKPT704",
    "left-behind",
    Aftermath,
    statement="A load leaves no file beside the checkpoint, and does not keep the checkpoint open.",
    explanation=(
        "Files that a load adds to a folder of weights are taken for weights by whoever reads the "
        "folder next, and fill disks. A file that is kept open cannot be replaced on some systems, "
        "and counts against the limit of the process. Caches and lazy readers do so on purpose, so "
        "this is advice."
    ),
    cause="A temporary file is not removed, or a file is opened without being closed.",
    fix="Use `tempfile.TemporaryDirectory`, and open files in a `with` statement.",
    references=("pytorch/rl#3966", "safetensors/safetensors#164"),
    advice=True,
)
def left_behind(after: Aftermath) -> Iterator[Broken]:
    for name in after.added:
        yield Broken(name, "it is new beside the checkpoint after the load")
    for name in after.opened:
        yield Broken(name, "it is still open after the load")


@rule(
    "CKPT705",
    "stale-load",
    SecondLoad,
    statement="A file that was replaced is read again by the next load.",
    explanation=(
        "The file is loaded again when another checkpoint stands under its name: the module must "
        "hold what the new one says. A cache must go by more than the name: by size and time, or "
        "by contents."
    ),
    cause="What was read is kept by the file's name, and given out again without a look at it.",
    fix="Add the file's size and `st_mtime_ns` to the key of the cache, or do without it.",
    references=("vllm-project/vllm#32718",),
)
def stale_load(second: SecondLoad) -> Iterator[Broken]:
    if second.stale:
        more = len(second.stale) - 1
        others = f", and so have {more} more" if more else ""
        yield Broken(
            second.stale[0],
            f"it has the values of the file that was there before{others}",
            second.stale,
        )
    elif second.error is not None:
        yield Broken(
            "the next load",
            f"another file of the same kind: {second.error}",
            cause="Something is kept of the first file that does not go with the next.",
            fix="Start each load with nothing but its arguments.",
        )


@rule(
    "CKPT706",
    "neighbour-changed",
    Aftermath,
    statement="A load changes, moves and deletes no other file in the checkpoint's folder.",
    explanation=(
        "Other files in the folder are other people's: configurations, shards, the checkpoints "
        "before."
    ),
    cause="The loader tidies up, converts in place, or writes to a name that is taken.",
    fix="Write to a folder of the loader's own, and touch nothing else.",
    references=("bghira/SimpleTuner#2714",),
)
def neighbour_changed(after: Aftermath) -> Iterator[Broken]:
    for name in after.removed:
        yield Broken(name, "it stood beside the checkpoint, and is gone after the load")
    for name in after.altered:
        yield Broken(name, "it stands beside the checkpoint, and holds something else now")


@rule(
    "CKPT707",
    "second-load-differs",
    SecondLoad,
    statement="A second load of the same file gives what the first gave.",
    explanation=(
        "The file is loaded again by the same loader, and the module judged as the first was, "
        "which had nothing wrong with it. Neither was trained in between. Asked of plain files."
    ),
    cause=(
        "What was read is kept for the next load, and the first one wrote to it: it took entries "
        "out, changed tensors in place, or had `load_state_dict(assign=True)` note in its metadata "
        "that all loads from it assign."
    ),
    fix="Give each load a copy of what is kept: `copy.deepcopy(state)`, metadata and all.",
    references=("pytorch/pytorch#188166",),
)
def second_load_differs(second: SecondLoad) -> Iterator[Broken]:
    for finding in second.wrong:
        yield Broken(finding.place, f"{finding.rule}: {finding.evidence}", finding.names)


def _broken(life: Lifetime) -> Iterator[Broken]:
    if life.error is not None:
        yield Broken("the file", f"{life.event}: {life.error}")
    elif life.changed:
        first, more = life.changed[0], len(life.changed) - 1
        others = f", and those of {more} more" if more else ""
        yield Broken(first, f"its values changed when the file was {life.event}{others}")
