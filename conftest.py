"""For every test of this project; the plugin itself comes in through its entry point.

Naming the plugin's module here as well would register it twice, and pytest would stop.
"""

from __future__ import annotations

# Once, and before any test: a `pytester` run in this process drops the modules it was the first to
# import, and torch cannot be imported a second time.
import torch  # noqa: F401

pytest_plugins = ["pytester"]
