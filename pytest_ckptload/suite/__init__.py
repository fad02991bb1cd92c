"""The conformance suite: tests that pytest collects without a test file."""

from __future__ import annotations

from pytest_ckptload.suite.collector import SuitePlugin

__all__ = ["SuitePlugin"]
