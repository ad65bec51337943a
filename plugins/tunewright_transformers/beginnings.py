"""What rows of token ids begin with in common, in groups and groups of groups, and how many rows fit into a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

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

    def own(self, row: int) -> int:
        """How many tokens of the row are in none."""
        return len(self.rows[row]) - self.depth(row)

    def batches(self, further: int, budget: int) -> Iterator[list[int]]:
        """Neighbours in `order`, as many as fit, each with room for so many `further` tokens; or one row."""
        begin, all_alike = 0, [further] * len(self.rows)
        while begin < len(self.order):
            end = begin + self.fitting(begin, all_alike, budget)
            yield self.order[begin:end]
            begin = end

    def fitting(self, begin: int, further: Sequence[int], budget: int, going: Mapping[int, int] | None = None) -> int:
        """How many rows of `order` from `begin` on fit beside those that are `going`, of which each has got so many
        tokens more than it began with.

        Each row takes as much as the longest, and has room for the most of what is `further` to come: by row, counted
        from its beginning. With the segments above them that is at most `budget` tokens, or one row.
        """
        longest = room = shared = 0
        above: set[int] = set()
        had = going or {}
        waiting = (self.order[place] for place in range(begin, len(self.order)))
        for count, row in enumerate(chain(had, waiting)):
            got = had.get(row, 0)
            longest, room = max(longest, self.own(row) + got), max(room, further[row] - got)
            shared += self._more(row, above)
            if count and count >= len(had) and shared + (count + 1) * (longest + room) > budget:
                return count - len(had)
        return len(self.order) - begin

    def _more(self, row: int, above: set[int]) -> int:
        """Tokens of the segments that the row adds to those `above`."""
        new = set(self.path(row)) - above
        above |= new
        return sum(self.segments[place].end - self.segments[place].begin for place in new)
