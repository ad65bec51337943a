"""The order of an epoch: rows of similar length, or with a common beginning, share a batch; a seed alone decides which.

Padding costs as much as text, so a batch of similar lengths is faster; what rows begin with is computed once a batch.
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
MEGABATCH = 8
"""Batches among which rows are sorted by length. Larger: less padding, but batches that vary less between epochs."""


class Drawn(Sampler[int]):
    """Yields every row's position once an epoch, in an order that epoch `e` draws with a generator seeded by
    `seed + e`; `set_epoch` is called by transformers' loop."""

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        self.rows = rows
        self.batch_size = batch_size
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

    def shuffled(self, batches: Sequence[list[int]], generator: torch.Generator) -> Iterator[int]:
        """The rows of whole batches, these in an order by chance."""
        for number in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[number]


class ByLength(Drawn):
    """Each `batch_size` rows in a row are of similar length.

    `lengths` are in tokens. Rows that fill no batch are drawn by chance, not by length, and come last.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        super().__init__(len(lengths), batch_size, seed)
        self.lengths = lengths

    def order(self, generator: torch.Generator) -> Iterator[int]:
        """Sorted by length within spans of a few batches."""
        order = torch.randperm(len(self), generator=generator).tolist()
        full = len(order) - len(order) % self.batch_size
        yield from self.shuffled(self._batches(order[:full]), generator)
        yield from order[full:]

    def _batches(self, order: list[int]) -> list[list[int]]:
        span = self.batch_size * MEGABATCH
        batches = []
        for start in range(0, len(order), span):
            near = sorted(order[start : start + span], key=self.lengths.__getitem__)
            batches += [near[i : i + self.batch_size] for i in range(0, len(near), self.batch_size)]
        return batches


class ByPrefix(Drawn):
    """Each `batch_size` rows in a row begin alike as far as may be: with the same document after the same instructions.

    `rows` are the token ids that the rows may share. Which rows with a common beginning follow on each other, and the
    order of the batches, is drawn anew for every epoch.
    """

    def __init__(self, rows: Sequence[Sequence[int]], batch_size: int, seed: int) -> None:
        super().__init__(len(rows), batch_size, seed)
        self.ids = rows

    def order(self, generator: torch.Generator) -> Iterator[int]:
        """Through the tree of the rows' beginnings, depth first, turning by chance."""
        order = shuffled(self.ids, SHARED, lambda count: torch.randperm(count, generator=generator).tolist())
        full = len(order) - len(order) % self.batch_size
        batches = [order[start : start + self.batch_size] for start in range(0, full, self.batch_size)]
        yield from self.shuffled(batches, generator)
        yield from order[full:]
