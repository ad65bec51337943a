"""Whether rows that begin alike can be asked in branches: what some share is computed once, and read where it lies.

`beginnings` finds the tree of what rows share, and `grown` computes its segments, by `passes` over pieces: a piece is a
segment of the tree or what a row has of its own, and sees the segments above it and itself (`branch_attention`). For
decoding, each row of a `row_batch` has keys and values of its own, and those of its segments are read once for all rows
below them. A row's numbers are those that it has alone, apart from the order of floating-point sums. Trainings have a
tree of their own, with gradients: `prefix` and `tree_attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from tunewright_transformers import trial
from tunewright_transformers.attention import PLAIN
from tunewright_transformers.beginnings import SHARED
from tunewright_transformers.kept import exceeded_window, keeps_keys
from tunewright_transformers.passes import Piece, feed
from tunewright_transformers.rotary import rotates_by_length
from tunewright_transformers.row_batch import Batch

_KNOWN: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def sharing(model: Any, longest: int, ids: Sequence[int]) -> bool:
    """Whether rows of at most `longest` tokens can be asked this way; `ids` are some tokens to try it with.

    Every layer must keep keys and values, and a window be no shorter than the longest row: then it hides nothing. The
    longest row must not change how others are rotated either: a piece is computed in a pass that is shorter than a row.
    """
    if rotates_by_length(model.config, longest):
        return False
    if not keeps_keys(model) or exceeded_window(model, longest) is not None or len(ids) <= 2:
        return False
    return _knows(model, ids)


def _knows(model: Any, ids: Sequence[int]) -> bool:
    """Whether the model hands its attention over, and that is all that it does with it."""
    if model.config.get_text_config()._attn_implementation != PLAIN:  # may be otherwise at another time
        return False
    if model not in _KNOWN:
        _KNOWN[model] = not _why_not(model, list(ids[: 2 * SHARED]))
    return _KNOWN[model]


def _why_not(model: Any, ids: list[int]) -> str:
    """Two pieces and a step must give what the model's own forward gives."""
    half, row = len(ids) // 2, torch.tensor([ids], device=model.device)

    def in_branches() -> torch.Tensor:
        kept = feed(model, [Piece(ids[:half], 0, ())]).kept
        return Batch(model, [Piece(ids[half:-1], half, (kept,))], 1).step(row[0, -1:])[0]

    def plainly() -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=row, use_cache=False).logits[0, -1]
        return logits

    return trial.why_not(in_branches, plainly, trial.ROUGH)  # 4-bit and 8-bit layers round whatever their type is
