"""How surely and how soon faults are caught within the default budget, over many seeds, and whether
a correct sibling is ever accused.

    python tests/benchmarks/bench_faults.py --seeds 200 [--only NAME …]

Each run is a check as anybody makes it: all features, Hypothesis' own number of random cases. The
fixed cases, with which every check begins, are the same for all seeds: siblings, which go through
all of them, do so with the first seed only.
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


def caught(fault, seed):
    """Seconds to the first finding, or None."""
    budget = {**DEFAULT, **fault.limits}
    start = time.perf_counter()
    error = found(fault, hasty=(), shrink=False, seed=seed, **budget)
    return time.perf_counter() - start if error is not None else None


def accused(fault, seed):
    """What its sibling was accused of, or None."""
    budget = {**DEFAULT, "without": fault.beyond, "covering": seed == 0}
    try:
        check_sibling(fault, seed=seed, **budget)
    except CheckpointMismatch as error:
        return ", ".join(sorted({finding.code for finding in error.findings}))
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--no-siblings", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    medians, siblings = [], set()
    print(f"{'fault':45} {'code':9} {'caught':>9} {'median s':>9} {'worst s':>8}  sibling accused")
    for fault in FAULTS.values():
        if options.only and fault.name not in options.only:
            continue
        times = [seconds for seed in range(options.seeds) if (seconds := caught(fault, seed))]
        key = fault.sibling, str({**fault.given, **fault.right}), fault.promises, fault.advice
        runs = 0 if options.no_siblings or key in siblings else options.seeds
        siblings.add(key)
        wrong = [codes for seed in range(runs) if (codes := accused(fault, seed))]
        middle, worst = (statistics.median(times), max(times)) if times else (float("nan"),) * 2
        medians.append(middle)
        verdict = f"{len(wrong)} of {runs} {', '.join(sorted(set(wrong)))}" if runs else "(above)"
        print(
            f"{fault.name:45} {fault.code:9} {len(times):>4}/{options.seeds:<4} {middle:9.2f} "
            f"{worst:8.2f}  {verdict}",
            flush=True,
        )
    print(f"{len(medians)} faults, the median of their medians {statistics.median(medians):.2f} s")


if __name__ == "__main__":
    main()
