"""What generating costs: drawing and building a case, and doing so ten thousand times.

    HYPOTHESIS_NO_PLUGINS=1 pytest tests/benchmarks/bench_generation.py -p no:randomly -s

Hypothesis-torch has every Hypothesis test seed torch once it is installed: hence the variable.
"""

from __future__ import annotations

import gc
import itertools
import resource
import statistics
import tempfile
import time
from pathlib import Path

import hypothesis_torch
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.examine.trials.training import prepare
from pytest_ckptload.recipes import mmap
from pytest_ckptload.strategies import random_cases

EXAMPLES = 500


def milliseconds(strategy, build=lambda example: example):
    """Median milliseconds from the start of one example to that of the next."""
    starts = []

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def test(example):
        build(example)
        starts.append(time.perf_counter())

    test()
    return statistics.median(b - a for a, b in itertools.pairwise(starts)) * 1e3


@pytest.mark.filterwarnings("ignore::UserWarning")  # of hypothesis-torch's networks
def test_drawing_and_building_beside_hypothesis_torch(benchmark):
    """Three times in turn, so that both see the same machine; ours draws, and builds once more."""
    torch.set_num_threads(1)
    prepare()
    sizes = st.integers(1, 3)
    theirs = hypothesis_torch.linear_network_strategy(
        input_shape=st.tuples(sizes),
        output_shape=st.tuples(sizes),
        activation_layer=hypothesis_torch.same_shape_activation_strategy(),
        hidden_layer_size=sizes,
        num_hidden_layers=sizes,
        device=torch.device("cpu"),
    )
    figures = {"ours": [], "hypothesis-torch": []}
    for _ in range(3):
        figures["ours"].append(milliseconds(random_cases(), lambda case: case.build()))
        figures["hypothesis-torch"].append(milliseconds(theirs))
    medians = {name: statistics.median(values) for name, values in figures.items()}
    benchmark.extra_info.update(medians)
    benchmark.pedantic(lambda: None, rounds=1)
    print("\nms per case:", {name: round(value, 2) for name, value in medians.items()})
    assert medians["ours"] <= 2.5


def resident():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def test_ten_thousand_examples(benchmark):
    """In one process, loads and judgement included: memory, time and files stay as they are."""
    torch.set_num_threads(1)
    left = set(Path(tempfile.gettempdir()).iterdir())
    times, memory = [], []
    for batch in range(24):
        checker = Checker(Defaults(seed=batch, max_examples=100, isolation="off"))
        start = time.perf_counter()
        examples = checker.check(mmap).examples
        if batch:  # the first pays for what torch imports
            times.append((time.perf_counter() - start) / examples)
            memory.append(resident())
    benchmark.pedantic(lambda: None, rounds=1)
    early, late = statistics.median(times[:6]), statistics.median(times[-6:])
    print(
        f"\n{examples * 23} examples: {memory[-1] - memory[0]:+.1f} MB, "
        f"{early * 1e3:.2f} ms an example at first and {late * 1e3:.2f} ms at last"
    )
    assert memory[-1] - memory[0] <= 50
    assert late <= 1.1 * early
    assert set(Path(tempfile.gettempdir()).glob("ckptload-*")) <= left
