"""What a check costs, beside a hand-written Hypothesis test that does less.

    pytest tests/benchmarks/bench_check.py -p no:randomly --benchmark-columns=median,min,max

``own`` is the harness's own time per example: the whole of it less the save, the eager load and the
load under test, each timed where it happens.
"""

from __future__ import annotations

import copy
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
from pytest_ckptload.examine import pipeline, reference
from pytest_ckptload.recipes import eager, mmap

EXAMPLES = 500


class Clock:
    """Adds up the time spent in what is not the harness's own, example by example."""

    def __init__(self):
        self.elsewhere = 0.0

    def timed(self, function):
        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.elsewhere += time.perf_counter() - start

        return timed


@pytest.fixture(scope="module", autouse=True)
def warm():
    torch.set_num_threads(1)
    torch.empty(1, device="meta").normal_()
    Checker(Defaults(max_examples=20)).check(mmap)


def test_own_time_per_example(benchmark, monkeypatch):
    """Median over examples of draw + build + fill + observe + judge + step, all rules on."""
    clock = Clock()
    monkeypatch.setattr(pipeline, "write", clock.timed(pipeline.write))
    monkeypatch.setattr(reference, "eager", clock.timed(reference.eager))
    loader = clock.timed(mmap)
    whole, own = [], []
    last = [time.perf_counter()]
    examine = pipeline.examine

    def examined(*args):
        verdict = examine(*args)
        now = time.perf_counter()
        whole.append(now - last[0])
        own.append(now - last[0] - clock.elsewhere)
        clock.elsewhere, last[0] = 0.0, time.perf_counter()
        return verdict

    monkeypatch.setattr("pytest_ckptload.checks.checker.examine", examined)
    checker = Checker(
        Defaults(seed=1, max_examples=EXAMPLES, promises=("strict",), isolation="off")
    )
    benchmark.pedantic(lambda: checker.check(lambda *a: loader(*a)), rounds=1)
    benchmark.extra_info["own median ms"] = statistics.median(own) * 1e3
    benchmark.extra_info["whole median ms"] = statistics.median(whole) * 1e3
    print(
        f"\n{len(own)} examples: own {statistics.median(own) * 1e3:.2f} ms, "
        f"whole {statistics.median(whole) * 1e3:.2f} ms (medians)"
    )
    assert statistics.median(own) < 6e-3


def hand_written(folder):
    """What people write by hand: hypothesis-torch's networks, saved, loaded both ways, compared."""
    sizes = st.integers(1, 3)
    networks = hypothesis_torch.linear_network_strategy(
        input_shape=st.tuples(sizes),
        output_shape=st.tuples(sizes),
        activation_layer=hypothesis_torch.same_shape_activation_strategy(),
        hidden_layer_size=sizes,
        num_hidden_layers=sizes,
        device=torch.device("cpu"),
    )
    path = folder / "checkpoint.pt"

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(networks)
    def test(network):
        path.unlink(missing_ok=True)
        torch.save(network.state_dict(), path)
        slow, fast = copy.deepcopy(network), copy.deepcopy(network)
        slow.load_state_dict(torch.load(path, weights_only=True))
        fast.load_state_dict(torch.load(path, weights_only=True, mmap=True))
        for name, tensor in slow.state_dict().items():
            assert torch.equal(tensor, fast.state_dict()[name])

    return test


@pytest.mark.filterwarnings("ignore::UserWarning")  # of hypothesis-torch's networks
def test_an_example_beside_a_hand_written_one(benchmark):
    """Seconds per example, in turn, so that both see the same machine."""
    with tempfile.TemporaryDirectory() as name:
        theirs = hand_written(Path(name))
        figures = {"ours": [], "hand-written": []}
        for _ in range(3):
            start = time.perf_counter()
            report = Checker(Defaults(seed=1, max_examples=EXAMPLES, isolation="off")).check(mmap)
            figures["ours"].append((time.perf_counter() - start) / report.examples)
            start = time.perf_counter()
            theirs()
            figures["hand-written"].append((time.perf_counter() - start) / EXAMPLES)
    medians = {name: statistics.median(values) * 1e3 for name, values in figures.items()}
    benchmark.extra_info.update(medians)
    benchmark.pedantic(lambda: None, rounds=1)
    print("\nms per example:", {name: round(value, 2) for name, value in medians.items()})
    assert medians["ours"] <= medians["hand-written"]


def test_the_meta_test_on_200_seeds(benchmark):
    """`check(eager)` with every promise: no finding and no advice, whatever is drawn."""

    def all_seeds():
        for seed in range(200):
            checker = Checker(
                Defaults(seed=seed, max_examples=30, strict=True, promises=("strict", "robust"))
            )
            assert checker.check(eager).advice == ()

    benchmark.pedantic(all_seeds, rounds=1)
