"""How the docs are built: ``sphinx-build -W docs docs/_build/html``, with the package installed."""

from __future__ import annotations

import sys
from importlib.metadata import version as _version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pytest-ckptload"
author = "the pytest-ckptload developers"
copyright = author
release = version = _version("pytest-ckptload")

extensions = ["myst_parser", "rule_pages", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
# Fragments of news, and what pages include.
exclude_patterns = ["_build", "_generated", "changes"]

autodoc_typehints = "none"
napoleon_numpy_docstring = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"pytest-ckptload {release}"
