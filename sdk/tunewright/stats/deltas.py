"""Scores of base and tuned under many redraws of the items: vectorised for means and for what is made of sums, one by
one for any other summary.

All classes answer the same two questions, with the same draws, so that a score gives the same figures either way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tunewright.parts.evaluator import Graded, OfSums, Summary

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


class Deltas(Protocol):
    """The two scores after a redraw, or their difference; one figure a row of the matrix that is given.

    `width` is how many figures a redraw holds at once, at least.
    """

    @property
    def width(self) -> int: ...

    def drawn(self, draw: Places) -> tuple[Floats, Floats]:
        """Base's score and tuned's of the clusters at these places, with repetition (rows × clusters)."""
        ...

    def swapped(self, swap: Flags) -> Floats:
        """The difference with base and tuned exchanged in the flagged clusters (rows × clusters)."""
        ...


class MeanDeltas:
    """For the mean of a grade: a few sums over clusters say all. `weights` has what each item counts; 1 without it."""

    def __init__(self, pairs: Pairs, metric: str, weights: Sequence[float] | None = None) -> None:
        import numpy as np

        counts = [1.0] * len(pairs.base) if weights is None else weights

        def sums(side: Sequence[Graded]) -> Floats:
            return np.array(
                [sum(counts[place] * side[place].grades[metric] for place in cluster) for cluster in pairs.clusters]
            )

        self.base, self.tuned = sums(pairs.base), sums(pairs.tuned)
        self.sizes = np.array([sum(counts[place] for place in cluster) for cluster in pairs.clusters])
        self.width = len(pairs.clusters)

    def drawn(self, draw: Places) -> tuple[Floats, Floats]:
        sizes = self.sizes[draw].sum(axis=1)
        return self.base[draw].sum(axis=1) / sizes, self.tuned[draw].sum(axis=1) / sizes

    def swapped(self, swap: Flags) -> Floats:
        import numpy as np

        gained = self.tuned - self.base
        means: Floats = np.where(swap, -gained, gained).sum(axis=1) / self.sizes.sum()
        return means


def by_reference(references: Sequence[str]) -> list[float]:
    """What each item counts where every reference counts the same, as the labels of a macro score do; 1 on average.

    Of references that are all different, as of free text, each item counts 1.
    """
    often = Counter(references)
    return [len(references) / (len(often) * often[one]) for one in references]


class SumDeltas:
    """For a summary that is made of sums: those of each cluster, added up as often as it is drawn."""

    def __init__(self, pairs: Pairs, summary: OfSums) -> None:
        import numpy as np
        from scipy.sparse import csr_matrix

        terms = csr_matrix(summary.terms([*pairs.base, *pairs.tuned]), dtype=np.float64)
        items = np.concatenate([np.asarray(cluster, dtype=np.int64) for cluster in pairs.clusters])
        starts = np.cumsum([0, *map(len, pairs.clusters)])
        groups = csr_matrix((np.ones(len(items)), items, starts), shape=(len(pairs.clusters), len(pairs.base)))
        self.base, self.tuned = groups @ terms[: len(pairs.base)], groups @ terms[len(pairs.base) :]
        self.score, self.width = summary.score, max(terms.shape[1], len(pairs.clusters))

    def drawn(self, draw: Places) -> tuple[Floats, Floats]:
        import numpy as np

        rows, clusters = len(draw), self.base.shape[0]
        places = draw + clusters * np.arange(rows)[:, None]
        often = np.bincount(places.ravel(), minlength=rows * clusters).reshape(rows, clusters).astype(np.float64)
        return self.score(often @ self.base), self.score(often @ self.tuned)

    def swapped(self, swap: Flags) -> Floats:
        import numpy as np

        moved = swap.astype(np.float64) @ (self.tuned - self.base)
        before, after = (np.asarray(side.sum(axis=0), dtype=np.float64) for side in (self.base, self.tuned))
        return self.score(after - moved) - self.score(before + moved)


class SummaryDeltas:
    """For any other summary: it is called twice for each row."""

    def __init__(self, pairs: Pairs, summary: Summary) -> None:
        self.pairs, self.summary = pairs, summary
        self.width = len(pairs.clusters)

    def drawn(self, draw: Places) -> tuple[Floats, Floats]:
        clusters = self.pairs.clusters
        rows = [[place for cluster in row for place in clusters[cluster]] for row in draw.tolist()]
        return self._scores(self.pairs.base, rows), self._scores(self.pairs.tuned, rows)

    def _scores(self, side: Sequence[Graded], rows: Sequence[Sequence[int]]) -> Floats:
        import numpy as np

        return np.array([float(self.summary([side[place] for place in row])) for row in rows])

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
