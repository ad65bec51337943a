"""Attention of pieces to the segments above them, which are read where they lie and not copied for each row.

Two ways: `Blocks`, for a pass of many tokens of few pieces, and `Step`, for one further token of each row of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention as attention

from tunewright_transformers.attention import register
from tunewright_transformers.kept import Kept, Path

BRANCHES = "tunewright_branches"
"""The name under which models find it."""
STEP = 256
"""Queries of a piece below a path that are taken at once: a mask over all of them grows with the square of a row."""


class Block(NamedTuple):
    """The tokens `begin:end` of a pass, pieces under one path, and the pairs that count, bool [own, path + own]."""

    path: Path
    begin: int
    end: int
    mask: torch.Tensor | None
    """None where they are one piece, which is causal."""


class Blocks(NamedTuple):
    """How the tokens of a pass attend."""

    blocks: list[Block]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """[1, tokens, heads, D] of query [1, heads, tokens, D]."""
        times = query.shape[1] // key.shape[1]
        made = []
        for path, begin, end, mask in self.blocks:
            keys = torch.cat([*(kept.keys[layer] for kept in path), key[0, :, begin:end]], 1)
            values = torch.cat([*(kept.values[layer] for kept in path), value[0, :, begin:end]], 1)
            keys, values = (each.repeat_interleave(times, 0)[None] for each in (keys, values))
            asked = query[:, :, begin:end]
            if mask is None:
                made += _causal(asked, keys, values, scaling)
            else:
                made.append(attention(asked, keys, values, attn_mask=mask, scale=scaling))
        return torch.cat(made, 2).transpose(1, 2)


def _causal(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float | None
) -> Iterator[torch.Tensor]:
    """Parts [1, heads, some, D] of what the queries of one piece find, which are those of the last keys."""
    tokens, before = query.shape[2], keys.shape[2] - query.shape[2]
    if not before:
        yield attention(query, keys, values, is_causal=True, scale=scaling)
        return
    for start in range(0, tokens, STEP):
        end = min(start + STEP, tokens)
        seen = before + end
        mask = torch.ones(end - start, seen, dtype=torch.bool, device=query.device).tril(before + start)
        some, their = keys[:, :, :seen], values[:, :, :seen]
        yield attention(query[:, :, start:end], some, their, attn_mask=mask, scale=scaling)


class Span(NamedTuple):
    """A segment that the neighbouring rows `first:last` of a batch have, `at` tokens behind their beginning."""

    kept: Kept
    first: int
    last: int
    at: int


class Step(NamedTuple):
    """How one token of each row attends: the segments as one product for all rows below them, then what is its own."""

    spans: list[Span]
    longest: int
    """Tokens of the longest path."""
    holes: torch.Tensor
    """Added to the scores of a row's own places [rows, 1, 1, used]: -inf where there is no token of the row."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """[rows, 1, heads, D] of query [rows, heads, 1, D]."""
        rows, heads, _, size = query.shape
        groups = key.shape[1]
        asked = (query * (size**-0.5 if scaling is None else scaling)).view(rows, groups, heads // groups, size)
        own = (asked @ key.transpose(2, 3)).float() + self.holes
        scores = own.new_full((*own.shape[:3], self.longest + own.shape[3]), -torch.inf)
        scores[..., self.longest :] = own
        for kept, first, last, at in self.spans:
            keys = kept.keys[layer]
            found = _side_by_side(asked[first:last]) @ keys.transpose(1, 2)
            scores[first:last, ..., at : at + keys.shape[1]] = _apart(found, last - first)
        weights = scores.softmax(-1).to(value.dtype)
        made = weights[..., self.longest :] @ value
        for kept, first, last, at in self.spans:
            values = kept.values[layer]
            found = _side_by_side(weights[first:last, ..., at : at + values.shape[1]]) @ values
            made[first:last] += _apart(found, last - first)
        return made.reshape(rows, 1, heads, -1)


def _side_by_side(rows: torch.Tensor) -> torch.Tensor:
    """[rows, groups, heads, X] as [groups, rows × heads, X]."""
    return rows.transpose(0, 1).flatten(1, 2)


def _apart(joined: torch.Tensor, rows: int) -> torch.Tensor:
    """The inverse of it."""
    return joined.unflatten(1, (rows, -1)).transpose(0, 1)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    branches: Blocks | Step | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers asks of an attention. A model that does not hand `branches` on is found out by the trial."""
    if branches is None:
        return query.transpose(1, 2), None
    return branches.attend(module.layer_idx, query, key, value, scaling), None


register(BRANCHES, attend)
