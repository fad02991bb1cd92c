"""Rules that take a device to be asked: memory on it, and which one is the default.

Apart from the rules of their hundreds because a check on the CPU alone never asks most of this.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_ckptload.rules.facts import Ambient, DeviceMemory
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []


@rule(
    "CKPT602",
    "device-memory",
    DeviceMemory,
    statement="A load takes no more of a device's memory than eager loading does.",
    explanation=(
        "Counted by the device's own allocator, where torch has its figures: the most that was "
        "allocated at one time during the load, and what still is once it has returned. Eager "
        "loading has the file's tensors and the module's there at the same time."
    ),
    cause=(
        "The file's tensors are kept after they were copied, in a cache or an attribute, or were "
        "copied once more on the device."
    ),
    fix=(
        "Read to the CPU and move one tensor at a time, or let go of the state dict before "
        "returning."
    ),
    references=("espnet/espnet#5615", "pytorch/pytorch#25892"),
)
def device_memory(memory: DeviceMemory) -> Iterator[Broken]:
    for what, taken, eager in (
        ("at most", memory.peak, memory.eager_peak),
        ("afterwards", memory.held, memory.eager_held),
    ):
        if taken > eager + memory.slack:
            yield Broken(
                memory.device, f"{taken:,} bytes allocated {what}, with eager loading {eager:,}"
            )


@rule(
    "CKPT905",
    "default-device",
    Ambient,
    statement="With the promise *ambient*, a load gives the same under any default device.",
    explanation=(
        "Callers build under `with torch.device(…)`, or set a default device for the program. The "
        "loader is called under meta, the CPU and the device that it loads to."
    ),
    cause="The module, or a tensor in it, is made without saying where.",
    fix="Build under `with torch.device(…)` in the loader, and name the device of what it makes.",
    references=(
        "huggingface/transformers#38066",
        "safetensors/safetensors#503",
        "pytorch/pytorch#130792",
    ),
)
def default_device(ambient: Ambient) -> Iterator[Broken]:
    for default, difference in ambient.unlike.items():
        yield Broken(f"under torch.device({default!r})", difference)
