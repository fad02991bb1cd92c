"""What the plugin adds to a session that does not use it: paired runs in fresh processes.

    pytest tests/benchmarks/bench_startup.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

PAIRS = 40


def test_the_plugin_adds_less_than_five_milliseconds(benchmark, tmp_path):
    tmp_path.joinpath("test_own.py").write_text("def test_own(): pass\n")
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def run(*options):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        start = time.perf_counter()
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        return time.perf_counter() - start

    run(), run("-p", "ckptload")
    differences = []
    for pair in range(PAIRS):
        # In turn, and each first in every other pair.
        without = run() if pair % 2 else None
        with_plugin = run("-p", "ckptload")
        without = run() if without is None else without
        differences.append(with_plugin - without)
    median = statistics.median(differences) * 1e3
    benchmark.extra_info["added ms"] = median
    benchmark.pedantic(lambda: None, rounds=1)
    print(f"\nadds {median:.2f} ms (median of {PAIRS} paired differences)")
    assert median < 5
