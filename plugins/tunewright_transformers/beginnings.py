"""What rows of token ids begin with in common, in groups and groups of groups, and how many rows fit into a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunewright.data.prefixes import ordered, segments

SHARED = 8
"""Fewest common tokens for which a piece of their own pays."""


class Tree:
    """What rows of token ids share, from `SHARED` tokens on.

    `order` has the rows' places such that those that begin alike are neighbours.
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows, self.order = rows, ordered(rows)
        self.segments = segments(rows, SHARED)
        self._leaf: list[int | None] = [None] * len(rows)
        for place, segment in enumerate(self.segments):
            for row in segment.rows:
                self._leaf[row] = place  # a deeper one comes later

    def path(self, row: int) -> list[int]:
        """Places of the segments that the row begins with, root first."""
        return self.above(self._leaf[row])

    def above(self, place: int | None) -> list[int]:
        """The segment and those above it, root first."""
        found = []
        while place is not None:
            found.append(place)
            place = self.segments[place].parent
        return found[::-1]

    def depth(self, row: int) -> int:
        """How many tokens of the row are in segments."""
        leaf = self._leaf[row]
        return 0 if leaf is None else self.segments[leaf].end

    def batches(self, further: int, budget: int) -> Iterator[list[int]]:
        """Neighbours in `order`, as many as have room for their own tokens and so many `further` ones, each row as long
        as the longest, beside their segments: in all at most `budget` tokens, or one row."""
        batch: list[int] = []
        above: set[int] = set()
        longest = 0
        for row in self.order:
            more, own = above.union(self.path(row)), max(longest, len(self.rows[row]) - self.depth(row))
            shared = sum(self.segments[place].end - self.segments[place].begin for place in more)
            if batch and shared + (len(batch) + 1) * (own + further) > budget:
                yield batch
                batch, more, own = [], set(self.path(row)), len(self.rows[row]) - self.depth(row)
            batch.append(row)
            above, longest = more, own
        if batch:
            yield batch
