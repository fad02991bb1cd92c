"""The devices that loads are checked on.

Apart because the options, the fixtures and the suite all name them, and must do it alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

# Errors raised here are sentences for the caller: the traceback ends with the caller's own line.
__tracebackhide__ = True

__all__ = ["available", "named"]


def available() -> list[torch.device]:
    """The CPU, and every index of the current accelerator."""
    found = [torch.device("cpu")]
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        assert kind is not None
        found += [torch.device(kind.type, i) for i in range(torch.accelerator.device_count())]
    return found


def named(names: Sequence[str | torch.device]) -> list[torch.device]:
    """The devices by these names: ``"all"``, ``"cpu"``, ``"cuda"`` (every index), ``"cuda:1"``.

    Raises ``ValueError`` for one that is not here.
    """
    here = available()
    chosen: list[torch.device] = []
    for name in names:
        matching = [d for d in here if str(name) in ("all", str(d), d.type)]
        if not matching:
            raise ValueError(
                f"there is no device {str(name)!r} here; there are: {', '.join(map(str, here))}"
            )
        chosen += [d for d in matching if d not in chosen]
    return chosen
