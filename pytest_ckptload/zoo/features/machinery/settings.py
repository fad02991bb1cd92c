"""Modules with settings that are not the defaults of their class, and that no file holds."""

from __future__ import annotations

from typing import Any

from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan

_MODULES: Covered[tuple[str, dict[str, Any]]] = Covered.of(
    (
        ("LayerNorm", {"normalized_shape": 2, "eps": 0.5}),
        ("RMSNorm", {"normalized_shape": 2, "eps": 0.5}),
        ("BatchNorm1d", {"num_features": 1, "eps": 0.5}),
        ("GroupNorm", {"num_groups": 1, "num_channels": 2, "eps": 0.5}),
        (
            "Conv1d",
            {
                "in_channels": 1,
                "out_channels": 1,
                "kernel_size": 2,
                "padding": 1,
                "padding_mode": "circular",
            },
        ),
        # Initialisation makes a row of zeros, and the file has another.
        ("Embedding", {"num_embeddings": 2, "embedding_dim": 2, "padding_idx": 1}),
    )
)


def _apply(plan: Plan, choose: Choose) -> None:
    kind, arguments = choose(_MODULES)
    plan.add(kind, **arguments)


FEATURE = Feature(
    name="settings",
    of="module",
    sentence="A module has settings that are not the defaults of its class, and in no file.",
    references=("idiap/fast-transformers#103", "huggingface/transformers#20699"),
    apply=_apply,
)
