"""The order of an epoch: rows of similar length share a batch, and a seed alone decides which.

Padding costs as much as text, so a batch of similar lengths is faster. The order draws on its own generator: it is
the same whatever else has drawn random numbers before, and a resumed run can find its place again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

MEGABATCH = 8
"""Batches among which rows are sorted by length. Larger: less padding, but batches that vary less between epochs."""


class ByLength(Sampler[int]):
    """Yields every row's position once an epoch, so that each `batch_size` in a row are of similar length.

    `lengths` are in tokens. Epoch `e` draws on a generator seeded by `seed + e`; `set_epoch` is called by transformers'
    loop. Rows that fill no batch are drawn by chance, not by length, and come last.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self), generator=generator).tolist()
        full = len(order) - len(order) % self.batch_size
        batches = self._batches(order[:full])
        for number in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[number]
        yield from order[full:]

    def _batches(self, order: list[int]) -> list[list[int]]:
        span = self.batch_size * MEGABATCH
        batches = []
        for start in range(0, len(order), span):
            near = sorted(order[start : start + span], key=self.lengths.__getitem__)
            batches += [near[i : i + self.batch_size] for i in range(0, len(near), self.batch_size)]
        return batches
