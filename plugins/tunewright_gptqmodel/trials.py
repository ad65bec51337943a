"""What else to try where four bits lose too much, from what costs a client nothing to what costs it the most room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright_gptqmodel import widths

ROWS = 128
"""Rows to calibrate by, as in the papers of GPTQ and AWQ; the default is for a first look."""

BLOCKS = "model.layers"
DOWN = "down_proj"
GATED = frozenset({
    "gemma", "gemma2", "gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3",
})  # fmt: skip
"""Types of models whose blocks are called so, each with such a layer. There llama.cpp's mixed types, as Q4_K_M, spend
their further bits too: on this layer, and on the first and the last blocks before others."""


def smaller(config: Mapping[str, Any]) -> dict[str, Any]:
    """The usual group below the one that is chosen by itself; none where there is none."""
    chosen = widths.fitting(config) if widths.widths(config) else None
    below = [size for size in widths.USUAL if chosen is not None and size < chosen]
    return {"group_size": below[0]} if below else {}


def ends(config: Mapping[str, Any]) -> list[str]:
    """The first block and the last, by name; none in a model whose names are not known, or that has no third."""
    count = config.get("num_hidden_layers")
    if config.get("model_type") not in GATED or not isinstance(count, int) or count < 3:
        return []
    return [f"{BLOCKS}.0", f"{BLOCKS}.{count - 1}"]


def down(config: Mapping[str, Any]) -> list[str]:
    """The layer of each block that loses the most; none in a model whose names are not known."""
    return [DOWN] if config.get("model_type") in GATED else []
