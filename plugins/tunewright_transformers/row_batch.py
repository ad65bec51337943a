"""Rows that are decoded together, a token of each at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache

from tunewright_transformers.attention import Attending
from tunewright_transformers.branch_attention import BRANCHES, Span, Step
from tunewright_transformers.kept import Growing, cache_argument
from tunewright_transformers.passes import Piece, feed, passes


class Batch:
    """Rows that are decoded together: what they have of their own, each with `room` for further tokens.

    Neighbours that begin alike have the very same segments in their paths.
    """

    def __init__(self, model: Any, pieces: Sequence[Piece], room: int) -> None:
        self.model = model
        widest = max(len(piece.ids) for piece in pieces)
        self.lengths = torch.tensor([piece.begin + len(piece.ids) for piece in pieces], device=self.model.device)
        self.paths = [piece.path for piece in pieces]
        self.begins = [piece.begin for piece in pieces]
        own = torch.tensor([len(piece.ids) for piece in pieces], device=self.model.device)
        there = torch.arange(widest, device=self.model.device) < own[:, None]
        self.holes = torch.zeros(len(pieces), 1, 1, widest + room, device=self.model.device)
        self.holes[..., :widest].masked_fill_(~there[:, None, None], -torch.inf)
        self.layers = [Growing(len(pieces), widest + room) for _ in DynamicCache(config=self.model.config).layers]
        for chosen in passes(pieces):
            self._fill([pieces[each] for each in chosen], chosen)
        for layer in self.layers:
            layer.used = widest
        self._spans = self._lie()

    def _fill(self, pieces: Sequence[Piece], rows: Sequence[int]) -> None:
        kept = feed(self.model, pieces).kept
        lengths = torch.tensor([len(piece.ids) for piece in pieces], device=self.model.device)
        row = torch.tensor(rows, device=self.model.device).repeat_interleave(lengths)
        at = torch.cat([torch.arange(length, device=self.model.device) for length in lengths.tolist()])
        for layer, keys, values in zip(self.layers, kept.keys, kept.values, strict=True):
            layer.put(keys, values, row, at)

    def _lie(self) -> list[Span]:
        """Each segment once, with the rows that have it."""
        found, at = [], [0] * len(self.paths)
        for level in range(max(map(len, self.paths))):
            places = [place for place, path in enumerate(self.paths) if len(path) > level]
            for kept, some in groupby(places, key=lambda place: self.paths[place][level]):
                rows = list(some)
                found.append(Span(kept, rows[0], rows[-1] + 1, at[rows[0]]))
                for row in rows:
                    at[row] += kept.keys[0].shape[1]
        return found

    def step(self, inputs: torch.Tensor) -> torch.Tensor:
        """Feed a token of each row [rows]; the model's logits [rows, V] of what comes next."""
        used = self.layers[0].used + 1
        step = Step(self._spans, max(self.begins), self.holes[..., :used])
        with Attending(self.model, BRANCHES):
            made = self.model(
                input_ids=inputs[:, None],
                position_ids=self.lengths[:, None],
                use_cache=True,
                branches=step,
                **{cache_argument(self.model): Cache(layers=list(self.layers))},
            )
        self.lengths = self.lengths + 1
        logits: torch.Tensor = made.logits[:, -1]
        return logits

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, which are in order, alone."""
        kept = torch.tensor(rows, device=self.model.device)
        self.lengths, self.holes = self.lengths[kept], self.holes[kept]
        self.paths, self.begins = [self.paths[row] for row in rows], [self.begins[row] for row in rows]
        for layer in self.layers:
            layer.select(kept)
        self._spans = self._lie()
