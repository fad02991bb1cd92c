"""A drawn case made real, for as long as one example of a test runs.

Apart from ``conversion``, which is about collecting tests and settling what they draw.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import note

from pytest_ckptload.case import Case
from pytest_ckptload.contents import dtypes_in
from pytest_ckptload.examine.loads import folder
from pytest_ckptload.examine.written import WrittenCase
from pytest_ckptload.machine.torch_state import preserved
from pytest_ckptload.tried import Tried
from pytest_ckptload.zoo import seeded

__all__ = ["GIVEN", "made_real"]


GIVEN: Mapping[str, Callable[[WrittenCase], Any]] = {
    "ckptload_case": lambda written: written,
    "ckptload_module": lambda written: written.build(),
    "ckptload_checkpoint": lambda written: written.path,
}
"""What a test gets for each of the names that it may ask for."""


def made_real(
    function: Callable[..., Any],
    names: Sequence[str],
    replay: Callable[[Case], str],
    tried: Tried,
) -> Callable[..., Any]:
    """A test that takes a case by each of the ``names``, and gives ``function`` what it asked for.

    ``replay`` is the command that runs the test on one case again; ``tried`` counts the cases.
    """

    @functools.wraps(function)
    def test(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        case = kwargs[names[0]]
        try:
            # Seeded for what the test itself draws to be the same in a replay, but not like the
            # module: else a loader that initialises anew would hit upon the eager module's values.
            with preserved(), folder() as where, seeded(case.seed + 1):
                written = WrittenCase.of(case, where)
                tried.add(case, dtypes_in(written.state))
                kwargs |= {name: GIVEN[name](written) for name in names}
                return function(*args, **kwargs)
        except BaseException:
            note(f"Replay it with:\n  {replay(case)}")
            raise

    return test
