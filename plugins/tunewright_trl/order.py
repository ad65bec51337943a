"""The order of an epoch: rows of similar length, or with a common beginning, share a step; a seed alone decides which.

Padding costs as much as text, so a batch of similar lengths is faster; what rows begin with is computed once a batch.
A step is one of the optimizer: where gradients are accumulated, its batches are cut from the step's rows as they stand.
So 8 rows at once and twice 4 learn from the same rows, step by step.
An order draws on its own generator: it is the same whatever else has drawn random numbers before, and a resumed run can
find its place again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from tunewright.data.prefixes import shuffled

SHARED = 8
"""Fewest tokens more that a common beginning must have than another one, for its rows to be kept together."""
MEGASTEP = 8
"""Steps among which rows are sorted by length. Larger: less padding, but steps that vary less between epochs."""


class Drawn(Sampler[int]):
    """Yields every row's position once an epoch, in an order that epoch `e` draws with a generator seeded by
    `seed + e`; `set_epoch` is called by transformers' loop."""

    def __init__(self, rows: int, a_step: int, seed: int) -> None:
        self.rows = rows
        self.a_step = a_step
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        yield from self.order(torch.Generator().manual_seed(self.seed + self.epoch))

    def order(self, generator: torch.Generator) -> Iterator[int]:
        """The epoch's order."""
        raise NotImplementedError

    def shuffled(self, steps: Sequence[list[int]], generator: torch.Generator) -> Iterator[int]:
        """The rows of whole steps, these in an order by chance."""
        for number in torch.randperm(len(steps), generator=generator).tolist():
            yield from steps[number]


class ByLength(Drawn):
    """Each `a_step` rows in a row are of similar length, the shorter ones first.

    `lengths` are in tokens. Rows that fill no step are drawn by chance, not by length, and come last.
    """

    def __init__(self, lengths: Sequence[int], a_step: int, seed: int) -> None:
        super().__init__(len(lengths), a_step, seed)
        self.lengths = lengths

    def order(self, generator: torch.Generator) -> Iterator[int]:
        """Sorted by length within spans of a few steps."""
        order = torch.randperm(len(self), generator=generator).tolist()
        full = len(order) - len(order) % self.a_step
        yield from self.shuffled(self._steps(order[:full]), generator)
        yield from sorted(order[full:], key=self.lengths.__getitem__)

    def _steps(self, order: list[int]) -> list[list[int]]:
        span = self.a_step * MEGASTEP
        steps = []
        for start in range(0, len(order), span):
            near = sorted(order[start : start + span], key=self.lengths.__getitem__)
            steps += [near[i : i + self.a_step] for i in range(0, len(near), self.a_step)]
        return steps


class ByPrefix(Drawn):
    """Each `a_step` rows in a row begin alike as far as may be: with the same document after the same instructions.

    `rows` are the token ids that the rows may share. Which rows with a common beginning follow on each other, and the
    order of the steps, is drawn anew for every epoch.
    """

    def __init__(self, rows: Sequence[Sequence[int]], a_step: int, seed: int) -> None:
        super().__init__(len(rows), a_step, seed)
        self.ids = rows

    def order(self, generator: torch.Generator) -> Iterator[int]:
        """Through the tree of the rows' beginnings, depth first, turning by chance."""
        order = shuffled(self.ids, SHARED, lambda count: torch.randperm(count, generator=generator).tolist())
        full = len(order) - len(order) % self.a_step
        steps = [order[start : start + self.a_step] for start in range(0, full, self.a_step)]
        yield from self.shuffled(steps, generator)
        yield from order[full:]
