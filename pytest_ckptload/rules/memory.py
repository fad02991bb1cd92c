"""CKPT6xx: what a load takes."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_ckptload.rules.facts import DeviceMemory
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
