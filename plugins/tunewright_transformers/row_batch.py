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
from tunewright_transformers.kept import Growing, Path, cache_argument
from tunewright_transformers.passes import Piece, feed, passes


class Batch:
    """Rows that are decoded together: what they have of their own, each with `room` for further tokens.

    Neighbours that begin alike have the very same segments in their paths.
    """

    def __init__(self, model: Any, pieces: Sequence[Piece], room: int) -> None:
        self.model = model
        self.lengths = torch.empty(0, dtype=torch.long, device=model.device)
        self.paths: list[Path] = []
        self.begins: list[int] = []
        self.layers: list[Growing] = []
        self.join(pieces, room)

    def join(self, pieces: Sequence[Piece], room: int) -> None:
        """Go on with these rows too, which come behind the others; all have room for so many tokens from now on.

        The others' keys and values are copied: what has been let go of between them goes.
        """
        device = self.model.device
        there = self.holes[:, 0, 0, : self.layers[0].used] == 0 if self.layers else None
        own = [] if there is None else there.sum(1).tolist()
        before, own = len(own), [*own, *(len(piece.ids) for piece in pieces)]
        widest = max(own)
        layers = [Growing(len(own), widest + room) for _ in DynamicCache(config=self.model.config).layers]
        if there is not None:
            row, at = self._places(range(before), own)
            for layer in layers:  # one after the other, so that never all are held twice
                layer.put(*self.layers.pop(0).taken(there), row, at)
        self.layers = layers
        for chosen in passes(pieces):
            kept = feed(self.model, [pieces[each] for each in chosen]).kept
            row, at = self._places([before + each for each in chosen], own)
            for layer, keys, values in zip(layers, kept.keys, kept.values, strict=True):
                layer.put(keys, values, row, at)
        for layer in layers:
            layer.used = widest
        self.lengths = torch.cat(
            [self.lengths, torch.tensor([piece.begin + len(piece.ids) for piece in pieces], device=device)]
        )
        self.paths += [piece.path for piece in pieces]
        self.begins += [piece.begin for piece in pieces]
        self.holes = torch.zeros(len(own), 1, 1, widest + room, device=device)
        empty = torch.arange(widest, device=device) >= torch.tensor(own, device=device)[:, None]
        self.holes[..., :widest].masked_fill_(empty[:, None, None], -torch.inf)
        self._spans = self._lie()

    def _places(self, rows: Sequence[int], own: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and place in it of each own token of these rows."""
        lengths = torch.tensor([own[row] for row in rows], device=self.model.device)
        row = torch.tensor(rows, device=self.model.device).repeat_interleave(lengths)
        return row, torch.cat([torch.arange(own[row], device=self.model.device) for row in rows])

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
