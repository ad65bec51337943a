"""Base against tuned on the same items: the difference, how far it may be off, and whether chance explains it.

    score = compare(base, tuned, "exact_match", mean_of("exact_match"), seed=0)

Items are the unit of chance, or their groups where they have any: the questions on one document stand or fall together.
"""

from __future__ import annotations

import math
import random
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunewright.errors import Refused
from tunewright.parts.evaluator import Evaluator, Graded, Item, OfSums, Summary, mean_of
from tunewright.parts.gate import Score
from tunewright.stats import changes
from tunewright.stats.deltas import Deltas, MeanDeltas, Pairs, SumDeltas, SummaryDeltas, by_reference
from tunewright.stats.proportion import wilson

if TYPE_CHECKING:
    import numpy as np

    from tunewright.stats.deltas import Flags, Floats

Interval = tuple[float, float]
RESAMPLES = 2_000
BLOCK = 4_000_000
"""Drawn places held at once, so that memory stays bounded: 32 MB."""
FEW_CHANGES = 10
"""Changed items, or groups, or such that changed otherwise than the rest, below which no bootstrap is relied on."""
VISITS = 1_000_000
"""Graded items handed to a summary that is neither a mean nor made of sums, about, for an interval or a test: above 500
items fewer resamples and swaps are drawn, at least 400, and no p-value is below 1 in 401."""


def compare(
    base: Sequence[Graded],
    tuned: Sequence[Graded],
    metric: str,
    summary: Summary,
    seed: int,
    lower_is_better: bool = False,
    compare_by: str | None = None,
    largest: float = 1.0,
) -> Score:
    """Score of both and their difference, paired by item id. Equal arguments give equal figures.

    Where the score is a mean of zeros and ones over items that stand alone, all is computed from counts: McNemar's
    exact test with its mid-p, Tango's interval of the difference, Wilson's of each side. Elsewhere the intervals are
    percentiles of a bootstrap over the items, or over their groups (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13), made as wide as Student's t has it for so few (Hesterberg, The American Statistician
    69, 2015, 371-386). For grades from 0 to `largest` they are joined, that of the difference with Tango's where few
    changed, or changed otherwise than the rest, that of a side with Wilson's; of a summary that is no mean of them,
    such as macro F1, each reference counts the same there. The p-value is that of a paired label-swap permutation test.
    `summary` sees an item as often as it was drawn.

    A mean of a grade that a part of the items has is compared on that part. Raises `Refused` where items do not pair,
    where one side alone has the grade of an item, or where a score is not a finite number.

    `compare_by` is kept in the score, for a `metric` that is biased: see `Evaluator.biased`.

    A bootstrap of any other score has no width where nothing differs between items, or where there is one: `n` and
    `clusters` say how little that proves. No items at all give zeros and p = 1.
    """
    pairs = _pair(base, tuned)
    if not pairs.base:
        nothing = Score(0, 0.0, 0.0, 0.0, (0.0, 0.0), 1.0)
        return replace(nothing, lower_is_better=lower_is_better, compare_by=compare_by)
    pairs = _concerned(pairs, metric, summary)
    before, after = _finite(summary(pairs.base), metric, "base"), _finite(summary(pairs.tuned), metric, "tuned")
    is_mean = _is_mean(pairs, metric, summary)
    found = Score(
        len(pairs.base), before, after, after - before, (0.0, 0.0), 1.0,
        clusters=len(pairs.clusters), lower_is_better=lower_is_better, compare_by=compare_by,
    )  # fmt: skip
    if is_mean and pairs.independent and _is_binary(pairs, metric):
        return _of_counts(found, pairs, metric)
    deltas = _deltas(pairs, metric, summary, is_mean)
    slow = isinstance(deltas, SummaryDeltas)
    rounds = max(400, min(RESAMPLES, VISITS // len(pairs.base))) if slow else RESAMPLES
    of_base, of_tuned, of_difference = _intervals(deltas, found.clusters, rounds, seed)
    p_value = _swap_test(deltas, found.clusters, rounds, seed)
    if _is_bounded(pairs, metric, largest):
        means = deltas if isinstance(deltas, MeanDeltas) else _by_reference(pairs, metric)
        widened = wide_enough if is_mean else joined
        of_difference = widened(of_difference, means.tuned - means.base, means.sizes, largest)
        of_base = side_wide_enough(of_base, before, means.sizes, largest)
        of_tuned = side_wide_enough(of_tuned, after, means.sizes, largest)
    return replace(found, ci95=of_difference, p_value=p_value, base_ci95=of_base, tuned_ci95=of_tuned)


def _deltas(pairs: Pairs, metric: str, summary: Summary, is_mean: bool) -> Deltas:
    if is_mean:
        return MeanDeltas(pairs, metric)
    return SumDeltas(pairs, summary) if isinstance(summary, OfSums) else SummaryDeltas(pairs, summary)


def _is_bounded(pairs: Pairs, metric: str, largest: float) -> bool:
    """Whether each item has the grade of the score's name, in its bounds, be the score its mean or another summary."""
    return all(0 <= graded.grades.get(metric, math.nan) <= largest for graded in (*pairs.base, *pairs.tuned))


def _by_reference(pairs: Pairs, metric: str) -> MeanDeltas:
    """The mean that a summary such as macro F1 goes with, in which a rare label counts as much as a common one."""
    return MeanDeltas(pairs, metric, by_reference([graded.item.reference for graded in pairs.base]))


def _of_counts(found: Score, pairs: Pairs, metric: str) -> Score:
    grades = [(b.grades[metric], t.grades[metric]) for b, t in zip(pairs.base, pairs.tuned, strict=True)]
    won, lost, n = grades.count((0, 1)), grades.count((1, 0)), len(grades)
    return replace(
        found,
        ci95=changes.interval(won, lost, n),
        p_value=changes.exact(won, lost),
        p_mid=changes.mid(won, lost),
        base_ci95=wilson(sum(b == 1 for b, _ in grades), n),
        tuned_ci95=wilson(sum(t == 1 for _, t in grades), n),
    )


def compare_all(
    evaluator: Evaluator,
    base: Sequence[Graded],
    tuned: Sequence[Graded],
    seed: int,
    *,
    metrics: Container[str] | None = None,
    skip_undefined: bool = False,
) -> Iterator[tuple[str, Score]]:
    """`compare` by every metric of an evaluation, in its order; of `metrics` where some are named.

    Raises ZeroDivisionError by a metric that concerns no item, unless these are to be skipped.
    """
    less, biased, largest = evaluator.lower_is_better(), evaluator.biased(), evaluator.largest()
    for metric, summary in evaluator.summaries().items():
        if metrics is not None and metric not in metrics:
            continue
        try:
            by, bound = biased.get(metric), largest.get(metric, 1.0)
            score = compare(base, tuned, metric, summary, seed, metric in less, by, bound)
        except ZeroDivisionError:
            if skip_undefined:
                continue
            raise
        yield metric, score


def _pair(base: Sequence[Graded], tuned: Sequence[Graded]) -> Pairs:
    by_id = {graded.item.id: graded for graded in tuned}
    ids = [graded.item.id for graded in base]
    if len(set(ids)) != len(ids) or len(by_id) != len(tuned):
        raise Refused("an evaluation graded one item twice, so that its rows do not pair")
    if odd := sorted(set(ids) ^ by_id.keys()):
        raise Refused(
            f"base and tuned were not asked the same items: {len(odd)} stand on one side only, such as `{odd[0]}`",
            fix="evaluate both again on the same rows",
        )
    for graded in base:
        other = by_id[graded.item.id].item
        if (graded.item.prompt, graded.item.reference) != (other.prompt, other.reference):
            raise Refused(
                f"base and tuned were asked different things under the id `{other.id}`",
                fix="evaluate both again on the same rows",
            )
    return Pairs(base, [by_id[name] for name in ids], clusters_of([graded.item for graded in base]))


def clusters_of(items: Sequence[Item]) -> list[list[int]]:
    """The places of items that are drawn together: those of a group, and each item that has none by itself."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(("item", item.id) if item.group is None else ("group", item.group), []).append(place)
    return list(places.values())


def _concerned(pairs: Pairs, metric: str, summary: Summary) -> Pairs:
    """The items that have the grade, where the score is the mean of theirs; all of them elsewhere."""
    having = [metric in graded.grades for graded in pairs.base]
    for graded, other, has in zip(pairs.base, pairs.tuned, having, strict=True):
        if has != (metric in other.grades):
            raise Refused(
                f"`{metric}` of the item `{graded.item.id}` was graded for {'base' if has else 'tuned'} alone",
                fix="whether a metric concerns an item must not depend on the answer: mend `grade` of the evaluator",
            )
    if all(having) or not any(having):
        return pairs
    sides = [[one for one, has in zip(side, having, strict=True) if has] for side in (pairs.base, pairs.tuned)]
    part = Pairs(sides[0], sides[1], clusters_of([graded.item for graded in sides[0]]))
    whole = zip((pairs.base, pairs.tuned), sides, strict=True)
    if _is_mean(part, metric, summary) and all(math.isclose(summary(a), summary(b)) for a, b in whole):
        return part
    return pairs


def _finite(score: float, metric: str, side: str) -> float:
    if not math.isfinite(score):
        raise Refused(f"the score `{metric}` of {side} is {score}, which nothing can be compared with")
    return float(score)


def _is_mean(pairs: Pairs, metric: str, summary: Summary) -> bool:
    """Whether `summary` averages the grade of its name: told by trying it on draws from both sides together."""
    pool = [*pairs.base, *pairs.tuned]
    if any(metric not in graded.grades for graded in pool):
        return False
    mean, draw = mean_of(metric), random.Random(0)
    probes = [pairs.base, pairs.tuned, *(draw.choices(pool, k=min(len(pool), 40)) for _ in range(8))]
    return all(math.isclose(summary(probe), mean(probe), rel_tol=1e-9, abs_tol=1e-12) for probe in probes)


def _is_binary(pairs: Pairs, metric: str) -> bool:
    return all(graded.grades[metric] in (0, 1) for graded in (*pairs.base, *pairs.tuned))


def _intervals(deltas: Deltas, clusters: int, rounds: int, seed: int) -> tuple[Interval, Interval, Interval]:
    """Of base, of tuned and of the difference, over resampled clusters; where a summary is undefined it is left out."""
    import numpy as np

    rng = np.random.default_rng(seed)
    found = [deltas.drawn(rng.integers(0, clusters, (rows, clusters))) for rows in _blocks(rounds, deltas.width)]
    base, tuned = (np.concatenate(side) for side in zip(*found, strict=True))
    return tuple(_percentiles(scores, clusters) for scores in (base, tuned, tuned - base))  # type: ignore[return-value]


def _percentiles(found: Floats, clusters: int) -> Interval:
    import numpy as np

    found = found[np.isfinite(found)]
    if not found.size:
        raise Refused("a score is undefined on every resample of its items")
    low, high = np.percentile(found, _levels(clusters))
    return (float(low), float(high))


def _levels(clusters: int) -> tuple[float, float]:
    """Which percentiles: 2.5 and 97.5 for many clusters, further out for few, where percentiles are too narrow.

    Hesterberg's expanded percentile interval, section 5.3 of the above.
    """
    from scipy.stats import norm, t

    if clusters < 2:
        return (0.0, 100.0)
    tail = 100 * float(norm.cdf(t.ppf(0.025, clusters - 1) * math.sqrt(clusters / (clusters - 1))))
    return (tail, 100 - tail)


def wide_enough(bootstrapped: Interval, changes_of: Floats, sizes: Floats, most: float = 1.0) -> Interval:
    """The interval of a mean of grades from 0 to `most`, by the sums of changes and the sizes of clusters.

    Few clusters that changed, or that changed otherwise than the rest, are drawn too seldom for a bootstrap to know
    their like: with a true loss of 5 points in 70 groups, all one way, it misses it in 13 of 100 evaluations, and of
    twelve groups that were all won it has no width. There it is joined with Tango's interval. And a rare loss may be
    among none of the items: where one answer in twenty loses much, none of forty does in one evaluation of eight. So
    however many changed a little, it reaches as far to either side as Tango's does where nothing changed at all.
    """
    import numpy as np

    means = changes_of / sizes
    others = np.abs(means - np.median(means)) > 1e-9 * most
    if min(np.count_nonzero(changes_of), np.count_nonzero(others)) < FEW_CHANGES:
        return joined(bootstrapped, changes_of, sizes, most)
    delta, unseen = float(changes_of.sum() / sizes.sum()), most * changes.interval(0, 0, _units(sizes))[1]
    return (
        max(-most, min(bootstrapped[0], delta - unseen)),
        min(most, max(bootstrapped[1], delta + unseen)),
    )


def _units(sizes: Floats) -> float:
    """How many items so many clusters count as: each as its share of the largest, so that none weighs more than one."""
    return float(sizes.sum()) / float(sizes.max())


def joined(bootstrapped: Interval, changes_of: Floats, sizes: Floats, most: float = 1.0) -> Interval:
    """The same joined with Tango's interval.

    Of a summary that is no mean always so, by the mean that it goes with: that many items changed does not say that a
    rare label was among them.
    """
    shares = changes_of / (float(sizes.max()) * most)
    won, lost = shares[shares > 0].sum(), -shares[shares < 0].sum()
    low, high = changes.interval(float(won), float(lost), _units(sizes))
    return (min(most * low, bootstrapped[0]), max(most * high, bootstrapped[1]))


def side_wide_enough(bootstrapped: Interval, score: float, sizes: Floats, most: float = 1.0) -> Interval:
    """The interval of one side's score, made of grades from 0 to `most`, by the sizes of clusters as in `wide_enough`.

    Answers graded alike have a bootstrap without width, and of a skewed score one misses the truth too often: with a
    true mean of 0.9, in 7 of 100 evaluations of 40 items it lies wholly above. So it is joined with Wilson's: too wide
    for grades that spread little, and hardly ever too narrow. A score that is no share of `most` keeps what it has.
    """
    if not 0 <= score <= most:
        return bootstrapped
    n = _units(sizes)
    low, high = wilson(score / most * n, n)
    return (min(most * low, bootstrapped[0]), max(most * high, bootstrapped[1]))


def _swap_test(deltas: Deltas, clusters: int, rounds: int, seed: int) -> float:
    """Share of label swaps with a difference at least as large; every swap where they are few, else drawn ones.

    Source: Fisher, The Design of Experiments, 1935, section 21; with the observed one counted among the drawn ones,
    Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), article 39.
    """
    import numpy as np

    observed = abs(deltas.swapped(np.zeros((1, clusters), dtype=bool))[0])
    exact = 2**clusters <= (2**16 if isinstance(deltas, MeanDeltas) else rounds)
    drawn = _drawn_swaps(clusters, rounds, np.random.default_rng(seed), deltas.width)
    swaps = _all_swaps(clusters) if exact else drawn
    found = np.concatenate([np.abs(deltas.swapped(swap)) for swap in swaps])
    # Counted by what is not smaller, so that a swap on which the summary is undefined speaks against the difference.
    extreme = int(np.count_nonzero(~(found < observed - 1e-9 * max(1.0, observed))))
    return extreme / len(found) if exact else (extreme + 1) / (len(found) + 1)


def _all_swaps(clusters: int) -> Iterator[Flags]:
    import numpy as np

    yield (np.arange(2**clusters)[:, None] >> np.arange(clusters)) % 2 == 1


def _drawn_swaps(clusters: int, rounds: int, rng: np.random.Generator, width: int = 0) -> Iterator[Flags]:
    for rows in _blocks(rounds, max(clusters, width)):
        yield rng.integers(0, 2, (rows, clusters)) == 1


def _blocks(rounds: int, size: int) -> Iterator[int]:
    step = max(1, BLOCK // size)
    yield from (min(step, rounds - start) for start in range(0, rounds, step))
