"""The segments of a tree, computed when the first row below them is asked and let go of after the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from tunewright_transformers.beginnings import Tree
from tunewright_transformers.kept import Kept, Path
from tunewright_transformers.passes import Pass, Piece, feed, passes


class Grown:
    """The segments of a tree that have been computed and are still to be gone on from."""

    def __init__(self, model: Any, tree: Tree) -> None:
        self.model, self.tree = model, tree
        self.kept: dict[int, Kept] = {}

    def path(self, places: Sequence[int]) -> Path:
        return tuple(self.kept[place] for place in places)

    def grow(self, rows: Sequence[int]) -> Iterator[tuple[list[int], Pass]]:
        """Compute the segments of the rows, level by level, and let go of all others'.

        Yields those of each pass, in the order in which they lie in it; none is computed twice.
        """
        tree = self.tree
        needed = {place for row in rows for place in tree.path(row)}
        self.kept = {place: kept for place, kept in self.kept.items() if place in needed}
        missing = sorted(needed - self.kept.keys())
        for _, some in groupby(sorted(missing, key=self._level), key=self._level):
            level = list(some)
            pieces = [self._piece(place) for place in level]
            for chosen in passes(pieces):
                made = feed(self.model, [pieces[each] for each in chosen])
                for each, start in zip(chosen, made.starts, strict=True):
                    self.kept[level[each]] = made.kept.part(start, start + len(pieces[each].ids))
                yield [level[each] for each in chosen], made

    def own(self, row: int) -> Piece:
        """What the row has of its own."""
        depth = self.tree.depth(row)
        return Piece(self.tree.rows[row][depth:], depth, self.path(self.tree.path(row)))

    def _level(self, place: int) -> int:
        return len(self.tree.above(place))

    def _piece(self, place: int) -> Piece:
        begin, end, rows, _ = self.tree.segments[place]
        return Piece(self.tree.rows[rows[0]][begin:end], begin, self.path(self.tree.above(place)[:-1]))
