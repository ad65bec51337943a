"""One beginning that all rows have, computed once in a cache of the library's: for models that are not asked in
branches, as those whose attention caps scores.

A batch is `[the beginning][padding][a row's own tokens]`, or has its padding at the end. Padding is masked and takes no
position.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache

from tunewright.data.prefixes import segments
from tunewright_transformers.beginnings import SHARED
from tunewright_transformers.kept import cache_argument, exceeded_window, keeps_keys
from tunewright_transformers.rotary import rotates_by_length


class Common(NamedTuple):
    """How many tokens all rows begin with, and the keys and values of these for one row; None where there are none."""

    tokens: int = 0
    kept: DynamicCache | None = None

    def cache(self, model: Any, rows: int) -> DynamicCache:
        """For a batch of so many rows, which may grow."""
        if self.kept is None:
            return DynamicCache(config=model.config)
        cache = copy.deepcopy(self.kept)
        cache.batch_repeat_interleave(rows)
        return cache


def common(model: Any, rows: Sequence[Sequence[int]], further: int) -> Common:
    """Compute what the rows begin with, but for the last token of each; at most `further` tokens follow a row.

    Nothing where a window is shorter than the longest row: a window counts the padding between beginning and row, so
    rows would see less than they do alone. Nor where the longest row changes how others are rotated.
    """
    longest = max(map(len, rows), default=0) + further
    if rotates_by_length(model.config, longest):
        return Common()
    if not keeps_keys(model) or exceeded_window(model, longest) is not None:
        return Common()
    first = next(iter(segments([row[:-1] for row in rows], SHARED)), None)
    if first is None or len(first.rows) < len(rows):
        return Common()
    made, ids = DynamicCache(config=model.config), torch.tensor([rows[0][: first.end]], device=model.device)
    go_on(model.base_model, ids, torch.ones_like(ids), made)
    return Common(first.end, made)


def go_on(model: Any, inputs: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> Any:
    """The output of `model`, or of its backbone, for further tokens; the cache grows by them.

    `inputs` are token ids [rows, new]; `mask` is 1 where a token counts [rows, past + new]. A position is the number
    of tokens that count before it.
    """
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -inputs.shape[1] :]
    passed = {cache_argument(model): cache}
    return model(input_ids=inputs, attention_mask=mask, position_ids=positions, use_cache=True, **passed)
