"""How many weights share a scale: a group may not end in the middle of a layer's row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunewright.errors import BadInput
from tunewright.parts import Finding

USUAL = (128, 64, 32, 16)
"""Sizes that are taken by themselves, the first that fits; smaller groups lose less and take more room."""

# what families call the number of inputs of their linear layers
INPUTS = (
    "hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "ffn_dim", "d_ff", "moe_intermediate_size",
)  # fmt: skip


def widths(config: Mapping[str, Any]) -> dict[str, int]:
    """The inputs of a base's linear layers, as far as its config.json names them."""
    found = {name: config[name] for name in INPUTS if isinstance(config.get(name), int)}
    heads, each = config.get("num_attention_heads"), config.get("head_dim")
    if isinstance(heads, int) and isinstance(each, int):
        found["num_attention_heads × head_dim"] = heads * each
    return found


def outputs(config: Mapping[str, Any]) -> dict[str, int]:
    """The outputs of a base's linear layers, as far as its config.json names them."""
    heads, kept = config.get("num_attention_heads"), config.get("num_key_value_heads")
    hidden, each = config.get("hidden_size"), config.get("head_dim")
    if each is None and isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        each = hidden // heads
    narrow = {"num_key_value_heads × head_dim": kept * each} if isinstance(kept, int) and isinstance(each, int) else {}
    return {**widths(config), **narrow}


def fitting(config: Mapping[str, Any]) -> int | None:
    """The usual size that divides every width; None where none does."""
    found = widths(config).values()
    return next((size for size in USUAL if all(width % size == 0 for width in found)), None)


def chosen(config: Mapping[str, Any], asked: int | None) -> int:
    """The size for a base: what was asked, else the usual one. Raises `BadInput` where that is none."""
    size = asked or fitting(config)
    if size is None:
        raise BadInput(_none_fits(config).message, fix=_none_fits(config).suggestion)
    return size


def misfits(config: Mapping[str, Any], asked: int | None) -> Iterator[Finding]:
    """What is wrong with a size on a base of this config.json."""
    fits = fitting(config)
    if asked is None:
        if fits is None:
            yield _none_fits(config)
        return
    for name, width in widths(config).items():
        if asked > 0 and width % asked:
            message = f"groups of {asked} weights do not divide the base's {name}, {width}"
            yield Finding("bad-value", message, "group_size", f"write `group_size: {fits or -1}`")
            return


def _none_fits(config: Mapping[str, Any]) -> Finding:
    found = ", ".join(f"{name} {width}" for name, width in widths(config).items())
    message = f"no usual group size ({', '.join(map(str, USUAL))}) divides the base's widths: {found}"
    return Finding("bad-value", message, "group_size", "write `group_size: -1`: one scale for each output")
