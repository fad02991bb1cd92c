"""CKPT7xx: the checkpoint file, and the model's ties to it."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_ckptload.rules.facts import FileFacts, Lifetime
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


def _broken(life: Lifetime) -> Iterator[Broken]:
    if life.error is not None:
        yield Broken("the file", f"{life.event}: {life.error}")
    elif life.changed:
        first, more = life.changed[0], len(life.changed) - 1
        others = f", and those of {more} more" if more else ""
        yield Broken(first, f"its values changed when the file was {life.event}{others}")
