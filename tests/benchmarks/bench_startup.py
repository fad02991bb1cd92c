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
    tmp_path.joinpath("nothing.py").write_text("")
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    # Compiled once, as on any machine where it was used before.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(*options):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        start = time.perf_counter()
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        return time.perf_counter() - start

    # Any `-p` has pytest look through all that is installed for a plugin of that name: the other
    # side of the pair names an empty module.
    def without():
        return run("-p", "nothing")

    def with_plugin():
        return run("-p", "ckptload")

    without(), with_plugin()
    differences = []
    for pair in range(PAIRS):
        # In turn, and each first in every other pair.
        if pair % 2:
            before, after = without(), with_plugin()
        else:
            after, before = with_plugin(), without()
        differences.append(after - before)
    median = statistics.median(differences) * 1e3
    benchmark.extra_info["added ms"] = median
    benchmark.pedantic(lambda: None, rounds=1)
    print(f"\nadds {median:.2f} ms (median of {PAIRS} paired differences)")
    assert median < 5
