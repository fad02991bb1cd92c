"""CKPT8xx: how a load ends: errors where there should be none, and none where there should be."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_ckptload.printable import described
from pytest_ckptload.rules.ending import Ending
from pytest_ckptload.rules.facts import Attempt
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []

_OF_SIGNALS = {
    "SIGBUS": (
        "Memory was read that maps a part of a file which the file does not have: it was cut off, "
        "or saved over, while it was mapped, or a size in it lies."
    ),
    "SIGKILL": "The system kills so, most often because memory ran out.",
}
_OF_EXIT = "Something called `os._exit`, or `exit` in native code: nobody can handle that."


@rule(
    "CKPT801",
    "process-died",
    Ending,
    statement="A load leaves its process alive, whatever it loads.",
    explanation=(
        "A crash takes everything with it that the process was doing. Loads run in a process of "
        "their own, so that here it takes one case. With the promise *robust* damaged files are "
        "loaded as well."
    ),
    cause="Native code read or wrote memory that is not its own, or called `abort`.",
    fix=(
        "Start at the function that is named: it was the last to be called from Python. Check "
        "sizes against the file before mapping, and replace files by renaming a new one into place."
    ),
    references=("meta-pytorch/torchtune#1018", "ggml-org/llama.cpp#6774", "cleinc/bts#76"),
)
def process_died(ending: Ending) -> Iterator[Broken]:
    if ending.seconds is None and ending.memory is None:
        exited = ending.status is not None and ending.status >= 0
        cause = _OF_EXIT if exited else _OF_SIGNALS.get(ending.signal or "")
        yield Broken("the load", f"the process {ending.how()}", cause=cause)


@rule(
    "CKPT802",
    "hang",
    Ending,
    statement="A load comes to an end.",
    explanation=(
        "A load that takes longer than `--ckptload-timeout` (30 seconds, or 20 times what the "
        "eager load took) is ended. Once a loader hung it is not waited for as long again: a "
        "second, or 20 times its slowest load that came to an end."
    ),
    cause="A lock that nobody releases, a loop that never ends, or waiting for what never comes.",
    fix=(
        "Start at the function that is named: it was running when time was up. If it comes to an "
        "end with --ckptload-isolation=off, it waits for a thread that ran before the check: a "
        "worker has none of those."
    ),
    references=("pytorch/pytorch#149545", "huggingface/transformers#8649"),
)
def hang(ending: Ending) -> Iterator[Broken]:
    if ending.seconds is not None:
        yield Broken("the load", f"the process {ending.how()}")


@rule(
    "CKPT803",
    "load-failed",
    Attempt,
    statement="What the eager recipe loads, the loader loads.",
    explanation=(
        "The checkpoint is an ordinary file that the eager recipe loads into the same module. "
        "Where "
        "torch itself refuses a conversion that this loader needs, refusing is right."
    ),
    cause="The loader raised an error, which is quoted.",
    fix=(
        "Start at the line that raised: the error is the cause of this one in the traceback. What "
        "the loader is not made for, such as a dtype, is left out by its feature, `without=[…]`."
    ),
    references=("pytorch/pytorch#186796", "huggingface/transformers#36495"),
)
def load_failed(attempt: Attempt) -> Iterator[Broken]:
    if attempt.expect == "load" and attempt.error is not None and not attempt.refusable:
        yield Broken("the load", _described(attempt.error))


def _described(error: BaseException) -> str:
    # What quotes another error, with its traceback, has it at the end.
    text = " ".join(described(error).split())
    return text if len(text) <= 320 else f"{text[:160]} … {text[-160:]}"


@rule(
    "CKPT804",
    "mismatch-accepted",
    Attempt,
    statement=(
        "A file with other shapes than the module's is refused, and with the promise *strict* one "
        "with a key too few or too many."
    ),
    explanation=(
        "Half-loaded models train and answer without complaint. A tensor of another shape than "
        "the module's is to be refused always. A loader that does not promise to be strict may "
        "accept a key too few or too many, but may leave nothing on meta or in uninitialised "
        "memory. Filling a tied name through its tie is no acceptance of a missing key."
    ),
    cause=(
        "`strict=False`, a loop over the file's keys that never looks at the module's, or `copy_` "
        "into a tensor that the other broadcasts to."
    ),
    fix="Use `strict=True`, or compare both sets of names, and shapes, and raise.",
    references=("vllm-project/vllm#10327", "urchade/GLiNER#355", "pytorch/pytorch#126604"),
)
def mismatch_accepted(attempt: Attempt) -> Iterator[Broken]:
    demanded = attempt.expect == "shapes" or (
        attempt.expect == "mismatch" and "strict" in attempt.promises
    )
    if demanded and attempt.error is None:
        yield Broken("the load", f"accepted a file with {attempt.details}", attempt.mismatched)


@rule(
    "CKPT805",
    "damage-accepted",
    Attempt,
    statement="With the promise *robust*, a damaged file that the eager recipe refuses is refused.",
    explanation=(
        "Only accepting or refusing is compared, never the kind of error. A bit flipped in "
        "tensor data "
        "that torch accepts as well is charged to nobody."
    ),
    cause="The loader catches errors and goes on, or reads past what is left of the file.",
    fix="Let the error out, and check sizes against the file before reading.",
    references=("meta-pytorch/torchtune#1018", "pytorch/pytorch#184652"),
)
def damage_accepted(attempt: Attempt) -> Iterator[Broken]:
    if attempt.expect == "damage" and attempt.error is None and "robust" in attempt.promises:
        yield Broken("the load", f"accepted a file that was {attempt.details}")


@rule(
    "CKPT806",
    "code-executed",
    Attempt,
    statement="With the promise *robust*, no code runs that the file brings along.",
    explanation=(
        "A pickle is a program: it may call any function there is, and whoever can write a "
        "checkpoint can run anything with the rights of whoever loads it. The files that this is "
        "found with do no harm, and leave a mark. Refusing afterwards does not help."
    ),
    cause="`torch.load(weights_only=False)`, `pickle.load`, or an unpickler that allows too much.",
    fix="Load with `weights_only=True`, or from a format that holds tensors and nothing else.",
    references=("ecmwf/anemoi-core#1416", "Synthefy/synthefy-nori#54"),
)
def code_executed(attempt: Attempt) -> Iterator[Broken]:
    if attempt.executed is not None and "robust" in attempt.promises:
        yield Broken("the load", f"{attempt.executed}: the file was {attempt.details}")


@rule(
    "CKPT807",
    "no-module",
    Attempt,
    statement="A loader returns the module it loaded, an `nn.Module`.",
    explanation="Nothing else can be compared with what eager loading gives.",
    cause="The loader forgot to return the module, or returns a state dict.",
    fix="Return the `nn.Module` (a wrapper needs a small function that takes it out).",
)
def no_module(attempt: Attempt) -> Iterator[Broken]:
    if attempt.expect in ("load", "mismatch", "shapes") and attempt.returned is not None:
        yield Broken("the load", f"returned {attempt.returned}")


@rule(
    "CKPT808",
    "memory-exceeded",
    Ending,
    statement="A load takes no more memory than `--ckptload-memory`.",
    explanation=(
        "Counted is what the process holds for itself beyond what it held before the load; pages "
        "of a mapped file are not. Where no limit is given, loads of generated models may take "
        "half of what is free, and those of your own model or file as much as there is."
    ),
    cause="Something grows without bounds, or a size is taken from the file as it stands there.",
    fix="Check sizes against the file before allocating, and free what was copied.",
    references=("safetensors/safetensors#369", "safetensors/safetensors#528"),
)
def memory_exceeded(ending: Ending) -> Iterator[Broken]:
    if ending.memory is not None:
        yield Broken("the load", f"the process {ending.how()}")


@rule(
    "CKPT809",
    "path-followed",
    Attempt,
    statement="With the promise *robust*, nothing is written where names in the archive point to.",
    explanation=(
        "A record of an archive may be called `../../x`. Unpacked by its name it lands outside of "
        "the folder that it was unpacked to, over a file that somebody else may need."
    ),
    cause="Records are unpacked to a path that is made of the folder and the record's name.",
    fix="Read records from the archive, or refuse names that are absolute or contain `..`.",
    references=("PaddlePaddle/Paddle#76899", "argosopentech/argos-translate#526"),
)
def path_followed(attempt: Attempt) -> Iterator[Broken]:
    if attempt.climbed and "robust" in attempt.promises:
        yield Broken("the load", f"wrote {', '.join(attempt.climbed)}")
