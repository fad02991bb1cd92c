"""Recipes: ways of loading that ship with the plugin. ``eager`` is the reference.

Each is written as its documentation has it, for reading as much as for running: what torch gets
wrong with them is what a project gets that follows the same documentation.
"""

from __future__ import annotations

from pytest_ckptload.loader import Loader, Resumer
from pytest_ckptload.recipes.eager import eager, eager_resume
from pytest_ckptload.recipes.fast import (
    meta_assign,
    mmap,
    mmap_meta_assign,
    mmap_meta_assign_resume,
)
from pytest_ckptload.recipes.stream import mmap_stream
from pytest_ckptload.recipes.swap import mmap_meta_swap, mmap_meta_swap_resume

__all__ = [
    "RECIPES",
    "RESUMERS",
    "eager",
    "eager_resume",
    "meta_assign",
    "mmap",
    "mmap_meta_assign",
    "mmap_meta_assign_resume",
    "mmap_meta_swap",
    "mmap_meta_swap_resume",
    "mmap_stream",
]

RECIPES: dict[str, Loader] = {
    "eager": eager,
    "mmap": mmap,
    "meta_assign": meta_assign,
    "mmap_meta_assign": mmap_meta_assign,
    "mmap_meta_swap": mmap_meta_swap,
    "mmap_stream": mmap_stream,
}
"""Every recipe by its name."""

RESUMERS: dict[str, Resumer] = {
    "eager_resume": eager_resume,
    "mmap_meta_assign_resume": mmap_meta_assign_resume,
    "mmap_meta_swap_resume": mmap_meta_swap_resume,
}
"""Every recipe for training by its name."""
