"""CKPT7xx: the checkpoint file, and the model's ties to it."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_ckptload.rules.facts import FileFacts
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
    cause="The file is mapped with MAP_SHARED, so that writing to a tensor writes to the file.",
    fix=(
        "Map privately, which is torch's default: "
        "`torch.serialization.set_default_mmap_options(mmap.MAP_PRIVATE)`, or copy on load."
    ),
    references=("pytorch/rl#3966", "bghira/SimpleTuner#2714"),
)
def file_changed(facts: FileFacts) -> Iterator[Broken]:
    if facts.loaded != facts.written:
        yield Broken("the file", "its bytes changed while it was loaded")
    elif facts.trained != facts.loaded:
        yield Broken("the file", "its bytes changed when an optimizer stepped the loaded module")
