"""How surely and how soon faults are caught within the default budget, over many seeds, and whether
a correct sibling is ever accused.

    python tests/benchmarks/bench_faults.py --seeds 200 [--only NAME …] [--part 1/2]

Each run is a check as anybody makes it: all features, Hypothesis' own number of random cases. The
fixed cases, with which every check begins, are the same for all seeds. So a fault that one of them
shows is caught in every run, and timed in a few; and siblings go through them with the first seed
only. ``--part 1/2`` takes every second fault, for two processes at a time. Those that take another
device than the CPU are left out, or with ``--annex`` taken alone, on the tests' second device.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faulty import check_sibling, found

from pytest_ckptload.faults import FAULTS
from pytest_ckptload.finding import CheckpointMismatch

DEFAULT = {"max_examples": None, "timeout": None, "memory": None}


def seconds(fault, seed, **limits):
    """Seconds to the first finding, or None."""
    budget = {**DEFAULT, **fault.limits, **limits}
    start = time.perf_counter()
    error = found(fault, hasty=(), shrink=False, seed=seed, **budget)
    return time.perf_counter() - start if error is not None else None


def caught(fault, seeds):
    """In how many runs it is caught, and the seconds to the first finding in some of them."""
    fixed = [seconds(fault, seed, max_examples=0) for seed in range(min(seeds, 5))]
    if all(fixed):
        return seeds, fixed
    times = [time for seed in range(seeds) if (time := seconds(fault, seed))]
    return len(times), times


def accused(fault, seed):
    """What its sibling was accused of, or None."""
    budget = {**DEFAULT, "without": fault.beyond, "covering": seed == 0}
    try:
        check_sibling(fault, seed=seed, **budget)
    except CheckpointMismatch as error:
        return ", ".join(sorted({finding.code for finding in error.findings}))
    return None


def check_of(fault):
    """What is the same for all faults whose siblings are held to the same check."""
    given = str({**fault.given, **fault.right})
    return fault.sibling, given, fault.promises, fault.advice, fault.beyond


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--annex", action="store_true")
    parser.add_argument("--no-siblings", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    part, parts = map(int, options.part.split("/"))
    medians = []
    first = {check_of(fault): fault for fault in reversed(FAULTS.values())}
    print(f"{'fault':45} {'code':9} {'caught':>9} {'median s':>9} {'worst s':>8}  sibling accused")
    if options.annex:
        import annex  # noqa: F401  (from here on there is a second device)

        DEFAULT["devices"] = ("annex:1",)
    for fault in [f for f in FAULTS.values() if f.elsewhere == options.annex][part - 1 :: parts]:
        if options.only and fault.name not in options.only:
            continue
        times_caught, times = caught(fault, options.seeds)
        once = first[check_of(fault)] is fault and not options.no_siblings
        runs = options.seeds if once else 0
        wrong = [codes for seed in range(runs) if (codes := accused(fault, seed))]
        middle, worst = (statistics.median(times), max(times)) if times else (float("nan"),) * 2
        medians.append(middle)
        verdict = f"{len(wrong)} of {runs} {', '.join(sorted(set(wrong)))}" if runs else "-"
        print(
            f"{fault.name:45} {fault.code:9} {times_caught:>4}/{options.seeds:<4} {middle:9.2f} "
            f"{worst:8.2f}  {verdict}",
            flush=True,
        )
    print(f"{len(medians)} faults, the median of their medians {statistics.median(medians):.2f} s")


if __name__ == "__main__":
    main()
