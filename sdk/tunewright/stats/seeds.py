"""The same training with several seeds: what luck in training does, apart from what the choice of questions does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunewright.errors import BadInput, Refused
from tunewright.parts.evaluator import Graded
from tunewright.stats.paired import clusters_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Between:
    """What was gained over the base, on average over the trainings; all in the metric's own unit.

    `sd_seeds` is how far trainings of other seeds lie apart. `se_items` says how far the mean may be off for the
    questions that happened to be asked, `se_seeds` for the seeds that happened to be drawn; `ci95` is over both.
    """

    seeds: int
    n: int
    clusters: int
    gain: float
    by_seed: Mapping[str, float]
    sd_seeds: float
    se_seeds: float
    se_items: float
    ci95: tuple[float, float]


def between(seeds: Mapping[str, Sequence[Graded]], base: Sequence[Graded], metric: str) -> Between:
    """Gains of the mean of a grade over `base`, by seed; all were asked the same items, by id.

    A two-way layout without repetitions, seeds by items (or by groups of them): the mean square between seeds and that
    of the rest part what seeds differ by from what items do (Searle, Casella and McCulloch, Variance Components, 1992,
    section 4.3). The interval takes both errors together, with Student's t of as few degrees of freedom as there are
    seeds less one where seeds are the larger error (Satterthwaite, Biometrics Bulletin 2, 1946, 110-114). Why seeds and
    items are both to be counted: Bouthillier et al., Accounting for variance in machine learning benchmarks, MLSys
    2021; Miller, Adding error bars to evals, 2024.

    Raises `BadInput` for fewer than two seeds, `Refused` where the items differ or one has no such grade.
    """
    import numpy as np
    from scipy.stats import t

    if len(seeds) < 2:
        raise BadInput("one seed says nothing about seeds", fix="train with two seeds or more")
    before = _grades("base", base, metric)
    gains = np.array([_gains(name, side, before, metric) for name, side in seeds.items()])
    table = _by_cluster(gains, base)
    k, m = table.shape
    if m < 2:
        raise Refused("one item, or one group of them, says nothing about items")
    whole, by_seed, by_cluster = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_cluster[None, :] + whole
    of_seeds, of_rest = m * by_seed.var(ddof=1), (rest**2).sum() / ((k - 1) * (m - 1))
    of_items = k * by_cluster.var(ddof=1)
    sd_seeds = math.sqrt(max(0.0, (of_seeds - of_rest) / m))
    # Of a mean over both: items' part of it, noise of each answer included; the seeds' own part besides.
    parts = ((max(0.0, of_seeds - of_rest) / (k * m), k - 1), (of_items / (k * m), m - 1))
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / of for part, of in parts) if variance else 1.0
    half = float(t.ppf(0.975, freedom)) * math.sqrt(variance)
    return Between(
        seeds=k,
        n=len(before),
        clusters=m,
        gain=float(whole),
        by_seed=dict(zip(seeds, by_seed.tolist(), strict=True)),
        sd_seeds=sd_seeds,
        se_seeds=sd_seeds / math.sqrt(k),
        se_items=math.sqrt(of_items / (k * m)),
        ci95=(float(whole) - half, float(whole) + half),
    )


def _grades(name: str, side: Sequence[Graded], metric: str) -> dict[str, float]:
    for graded in side:
        if metric not in graded.grades:
            raise Refused(f"`{graded.item.id}` of {name} has no grade `{metric}`")
    found = {graded.item.id: graded.grades[metric] for graded in side}
    if len(found) != len(side):
        raise Refused(f"an evaluation of {name} graded one item twice")
    return found


def _gains(name: str, side: Sequence[Graded], before: Mapping[str, float], metric: str) -> list[float]:
    after = _grades(f"seed {name}", side, metric)
    if odd := sorted(after.keys() ^ before.keys()):
        raise Refused(
            f"seed {name} and base were not asked the same items: {len(odd)} are on one side only, such as `{odd[0]}`",
            fix="evaluate both again on the same rows",
        )
    return [after[item] - before[item] for item in before]


def _by_cluster(gains: Floats, base: Sequence[Graded]) -> Floats:
    """Seeds × clusters, scaled so that the mean of a row is the mean over its items."""
    import numpy as np

    clusters = clusters_of([graded.item for graded in base])
    scale = len(clusters) / gains.shape[1]
    return np.stack([gains[:, cluster].sum(axis=1) * scale for cluster in clusters], axis=1)
