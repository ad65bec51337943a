"""The same training with several seeds: what luck in training does, apart from what the choice of questions does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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
    section 4.3). The interval takes both errors together: the half-width of each by Student's t of its own degrees of
    freedom, squared and summed (Howe, Approximate confidence limits on the mean of X + Y where X and Y are two tabled
    independent random variables, JASA 69, 1974, 789-794). Seeds that lie no further apart than answers do by themselves
    add nothing, and of two that happens often; it covers what it says for three seeds or more, a little less for two.
    Why seeds and items are both to be counted: Bouthillier et al., Accounting for variance in machine learning
    benchmarks, MLSys 2021; Miller, Adding error bars to evals, 2024.

    Items that no side has the grade of, as those of another task, do not count.

    Raises `BadInput` for fewer than two seeds, `Refused` where the items differ, where one side alone has the grade of
    an item, or where none has it.
    """
    import numpy as np

    if len(seeds) < 2:
        raise BadInput("one seed says nothing about seeds", fix="train with two seeds or more")
    before = _grades("base", base, metric)
    gains = np.array([_gains(name, side, before, metric) for name, side in seeds.items()])
    concerned = [graded for graded in base if before[graded.item.id] is not None]
    if not concerned:
        raise Refused(f"no item has a grade `{metric}`")
    table = _by_cluster(gains, concerned)
    k, m = table.shape
    if m < 2:
        raise Refused("one item, or one group of them, says nothing about items")
    found = parted(table)
    return Between(
        seeds=k,
        n=len(concerned),
        clusters=m,
        gain=found.mean,
        by_seed=dict(zip(seeds, table.mean(axis=1).tolist(), strict=True)),
        sd_seeds=found.se_seeds * math.sqrt(k),
        se_seeds=found.se_seeds,
        se_items=found.se_items,
        ci95=(found.mean - found.half, found.mean + found.half),
    )


class Parted(NamedTuple):
    """The mean of a table, its two standard errors, and the half of its 95 % interval over both."""

    mean: float
    se_seeds: float
    se_items: float
    half: float


def parted(table: Floats) -> Parted:
    """Of gains, seeds × items or groups, two or more of each."""
    from scipy.stats import t

    k, m = table.shape
    whole, by_seed, by_item = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_item[None, :] + whole
    of_seeds, of_rest = m * by_seed.var(ddof=1), (rest**2).sum() / ((k - 1) * (m - 1))
    # Of a mean over both: items' part of it, noise of each answer included; the seeds' own part besides.
    se_seeds = math.sqrt(max(0.0, float(of_seeds - of_rest)) / (k * m))
    se_items = math.sqrt(float(by_item.var(ddof=1)) / m)
    half = math.hypot(t.ppf(0.975, k - 1) * se_seeds, t.ppf(0.975, m - 1) * se_items)
    return Parted(float(whole), se_seeds, se_items, half)


def _grades(name: str, side: Sequence[Graded], metric: str) -> dict[str, float | None]:
    """By item; None where the metric does not concern it."""
    found = {graded.item.id: graded.grades.get(metric) for graded in side}
    if len(found) != len(side):
        raise Refused(f"an evaluation of {name} graded one item twice")
    return found


def _gains(name: str, side: Sequence[Graded], before: Mapping[str, float | None], metric: str) -> list[float]:
    """Of the items that have the grade, in their order."""
    after = _grades(f"seed {name}", side, metric)
    if odd := sorted(after.keys() ^ before.keys()):
        raise Refused(
            f"seed {name} and base were not asked the same items: {len(odd)} are on one side only, such as `{odd[0]}`",
            fix="evaluate both again on the same rows",
        )
    found = list[float]()
    for item, grade in before.items():
        later = after[item]
        if (later is None) != (grade is None):
            lacking, other = (f"seed {name}", "base") if later is None else ("base", f"seed {name}")
            raise Refused(
                f"`{item}` of {lacking} has no grade `{metric}`, and that of {other} has one",
                fix="whether a metric concerns an item must not depend on the answer: mend `grade` of the evaluator",
            )
        if later is not None and grade is not None:
            found.append(later - grade)
    return found


def _by_cluster(gains: Floats, base: Sequence[Graded]) -> Floats:
    """Seeds × clusters, scaled so that the mean of a row is the mean over its items."""
    import numpy as np

    clusters = clusters_of([graded.item for graded in base])
    scale = len(clusters) / gains.shape[1]
    return np.stack([gains[:, cluster].sum(axis=1) * scale for cluster in clusters], axis=1)
