"""The speed of comparing bytes, beside memcmp in the same run.

pytest tests/benchmarks/bench_compare.py
"""

from __future__ import annotations

import ctypes
import statistics
import time

import pytest
import torch

from pytest_ckptload.observe.tensors import same_bits

GIGABYTE = 1 << 30


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8], ids=str)
def test_one_gigabyte(benchmark, dtype):
    left = torch.arange(GIGABYTE // 8, dtype=torch.int64).view(dtype)
    right = left.clone()
    memcmp = ctypes.CDLL(None).memcmp
    arguments = (
        ctypes.c_void_p(left.data_ptr()),
        ctypes.c_void_p(right.data_ptr()),
        ctypes.c_size_t(GIGABYTE),
    )
    ratios, speeds = [], []
    for _ in range(15):
        start = time.perf_counter()
        assert memcmp(*arguments) == 0
        middle = time.perf_counter()
        assert same_bits(left, right)
        end = time.perf_counter()
        ratios.append((middle - start) / (end - middle))
        speeds.append(GIGABYTE / (end - middle) / 1e9)
    benchmark.pedantic(lambda: same_bits(left, right), rounds=1)
    ratio = statistics.median(ratios)
    benchmark.extra_info["ratio to memcmp"] = ratio
    print(f"\n{dtype}: {statistics.median(speeds):.1f} GB/s, {ratio:.2f} x memcmp (medians)")
    assert ratio >= 0.8
