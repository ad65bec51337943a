"""Differences tuned minus base under many redraws of the items: vectorised for means, one by one for any other summary.

Both classes answer the same two questions, with the same draws, so that a mean gives the same figures either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tunewright.parts.evaluator import Graded, Summary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Places = NDArray[np.int64]
    Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """The same items of base and tuned in one order; `clusters` are the places of items that are drawn together."""

    base: Sequence[Graded]
    tuned: Sequence[Graded]
    clusters: Sequence[Sequence[int]]

    @property
    def independent(self) -> bool:
        """Whether no two items share a group."""
        return len(self.clusters) == len(self.base)

    @property
    def alike(self) -> bool:
        """Whether base and tuned gave every item the same answer and the same grades."""
        return list(self.base) == list(self.tuned)


class Deltas(Protocol):
    """The difference of the two scores after a redraw; one figure a row of the matrix that is given."""

    def drawn(self, draw: Places) -> Floats:
        """Of the clusters at these places, with repetition (rows × clusters)."""
        ...

    def swapped(self, swap: Flags) -> Floats:
        """With base and tuned exchanged in the flagged clusters (rows × clusters)."""
        ...


class MeanDeltas:
    """For the mean of a grade: a few sums over clusters say all."""

    def __init__(self, pairs: Pairs, metric: str) -> None:
        import numpy as np

        difference = [t.grades[metric] - b.grades[metric] for b, t in zip(pairs.base, pairs.tuned, strict=True)]
        self.sums = np.array([sum(difference[place] for place in cluster) for cluster in pairs.clusters])
        self.sizes = np.array([len(cluster) for cluster in pairs.clusters])

    def drawn(self, draw: Places) -> Floats:
        means: Floats = self.sums[draw].sum(axis=1) / self.sizes[draw].sum(axis=1)
        return means

    def swapped(self, swap: Flags) -> Floats:
        import numpy as np

        means: Floats = np.where(swap, -self.sums, self.sums).sum(axis=1) / self.sizes.sum()
        return means


class SummaryDeltas:
    """For any other summary: it is called twice for each row."""

    def __init__(self, pairs: Pairs, summary: Summary) -> None:
        self.pairs, self.summary = pairs, summary

    def drawn(self, draw: Places) -> Floats:
        import numpy as np

        clusters = self.pairs.clusters
        rows = [[place for cluster in row for place in clusters[cluster]] for row in draw.tolist()]
        return np.array([self._delta([self.pairs.base[p] for p in r], [self.pairs.tuned[p] for p in r]) for r in rows])

    def swapped(self, swap: Flags) -> Floats:
        import numpy as np

        return np.array([self._delta(*self._exchanged(row)) for row in swap.tolist()])

    def _exchanged(self, row: Sequence[bool]) -> tuple[list[Graded], list[Graded]]:
        base, tuned = list(self.pairs.base), list(self.pairs.tuned)
        for flagged, cluster in zip(row, self.pairs.clusters, strict=True):
            if flagged:
                for place in cluster:
                    base[place], tuned[place] = tuned[place], base[place]
        return base, tuned

    def _delta(self, base: list[Graded], tuned: list[Graded]) -> float:
        return float(self.summary(tuned)) - float(self.summary(base))
