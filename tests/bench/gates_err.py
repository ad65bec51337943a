"""How often gates and intervals are wrong, by simulation: the table of docs/explanation/statistics.md.

    python tests/bench/gates_err.py [--rounds 2000]

Each round draws one evaluation and judges it by the gates. The figures of a round are those of `compare` with the seed
0, for all rounds at once: a resample is a row of counts, so that the means of 2,000 resamples are one product of
matrices (`tests/stats/test_gates_err_as_rarely_as_they_say.py` holds them against `compare`).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tunewright.parts.gate import Evidence, Gate, Score
from tunewright.stats import changes
from tunewright.stats.deltas import by_reference
from tunewright.stats.paired import RESAMPLES, _all_swaps, _drawn_swaps, _levels, joined, side_wide_enough, wide_enough
from tunewright.stats.proportion import wilson
from tunewright_basics.better_than import BetterThan, BetterThanOptions
from tunewright_basics.non_inferior import NonInferior, NonInferiorOptions

DISCORDANCE, MARGIN, METRIC, SIZES = 0.2, 0.05, "m", (40, 48, 100, 400)
Size = int | tuple[int, ...]
BATCH = 50
"""Rounds whose labels are counted at once."""
Sides = tuple[np.ndarray, np.ndarray]


class Labels(NamedTuple):
    """What was wanted and what was answered, labels by number; -1 is an answer that is no label."""

    wanted: np.ndarray
    base: np.ndarray
    tuned: np.ndarray


Make = Callable[[np.random.Generator, int, float], Sides | Labels]


class Figures(NamedTuple):
    """Shares of the rounds: the interval held the truth, lay wholly below or above it; each gate passed."""

    covered: float
    below: float
    above: float
    better: float
    non_inferior: float


def answers(rng: np.random.Generator, n: int, gain: float, discordance: float = DISCORDANCE) -> Sides:
    """Right/wrong of base and tuned: an item is won by (discordance + gain) / 2, lost by (discordance - gain) / 2."""
    draw, right = rng.random(n), rng.random(n) < 0.6
    won, lost = draw < (discordance + gain) / 2, (draw >= (discordance + gain) / 2) & (draw < discordance)
    return np.where(won, 0.0, np.where(lost, 1.0, right)), np.where(won, 1.0, np.where(lost, 0.0, right))


def one_way(rng: np.random.Generator, n: int, gain: float) -> Sides:
    """As few changes as the difference allows, all of them in its direction."""
    return answers(rng, n, gain, abs(gain))


def partial(rng: np.random.Generator, n: int, gain: float) -> Sides:
    """Scores as of token F1, near 0 and near 1: half of the items unchanged, the others drawn anew, higher."""
    base = rng.beta(0.4, 0.4, n)
    mean = 0.5 + 2 * gain
    return base, np.where(rng.random(n) < 0.5, rng.beta(0.8 * mean, 0.8 * (1 - mean), n), base)


def rarely_much(rng: np.random.Generator, n: int, gain: float) -> Sides:
    """Scores of which each moves a little, and few by 0.8: as few as the difference allows, in its direction."""
    base = np.full(n, 0.1 if gain > 0 else 0.9)
    much = np.where(rng.random(n) < abs(gain) / 0.8, math.copysign(0.8, gain), rng.choice((-0.02, 0.02), n))
    return base, base + much


def grouped(rng: np.random.Generator, n: int, gain: float) -> Sides:
    """Right/wrong, four items a group, of which all change or none does."""
    base, tuned = answers(rng, n // 4, gain)
    return np.repeat(base, 4), np.repeat(tuned, 4)


def labels(rng: np.random.Generator, n: int, gain: float, shares: tuple[float, ...] = (0.25,) * 4) -> Labels:
    """Labels of these shares, of which base has four of five right; what is lost, or won, goes one way only.

    Wrong answers are no label: F1 of a recall r is 2r / (1 + r), and macro F1 changes by `gain`.
    """
    before = 0.8
    f1 = 2 * before / (1 + before) + gain
    after = f1 / (2 - f1)
    wanted, draw = rng.choice(len(shares), n, p=shares), rng.random(n)
    return Labels(wanted, np.where(draw < before, wanted, -1), np.where(draw < after, wanted, -1))


def rare_label(rng: np.random.Generator, n: int, gain: float) -> Labels:
    """The same with one label of four as rare as one item in twenty."""
    return labels(rng, n, gain, (0.4, 0.3, 0.25, 0.05))


@cache
def _of_counts(won: int, lost: int, n: int) -> Score:
    """Right/wrong items that stand alone: counts are all that `compare` looks at."""
    delta = (won - lost) / n
    return Score(n, 0.5, 0.5 + delta, delta, changes.interval(won, lost, n), changes.exact(won, lost), clusters=n)


@cache
def _resamples(clusters: int) -> np.ndarray:
    """How often each cluster is in each resample, as `compare` draws them (resamples × clusters)."""
    draw = np.random.default_rng(0).integers(0, clusters, (RESAMPLES, clusters))
    return np.stack([np.bincount(row, minlength=clusters) for row in draw]).astype(float)


@cache
def _signs(clusters: int) -> np.ndarray:
    """The label swaps of `compare` (swaps × clusters): all where they are few."""
    few = 2**clusters <= 2**16
    swaps = _all_swaps(clusters) if few else _drawn_swaps(clusters, RESAMPLES, np.random.default_rng(0))
    return np.where(np.concatenate(list(swaps)), -1.0, 1.0)


def sizes_of(n: int, size: Size) -> np.ndarray:
    """How many items each group has: all of one size, or sizes in turn, the last as many as are left."""
    if isinstance(size, int):
        return np.full(n // size, size)
    found: list[int] = []
    while (left := n - sum(found)) > 0:
        found.append(min(left, size[len(found) % len(size)]))
    return np.array(found)


def scores(gains: np.ndarray, size: Size = 1, bootstrap: bool = False) -> list[Score]:
    """Of the difference of each item (rounds × items); `size` says how many make a group.

    With `bootstrap`, right/wrong items are compared as scores are.
    """
    if size == 1 and not bootstrap and np.isin(gains, (-1, 0, 1)).all():
        counts = zip((gains == 1).sum(axis=1), (gains == -1).sum(axis=1), strict=True)
        return [_of_counts(int(won), int(lost), gains.shape[1]) for won, lost in counts]
    sizes = sizes_of(gains.shape[1], size)
    sums, clusters = np.add.reduceat(gains, np.cumsum([0, *sizes[:-1]]), axis=1), len(sizes)
    draws = _resamples(clusters)
    lows, highs = np.percentile(draws @ sums.T / (draws @ sizes)[:, None], _levels(clusters), axis=0)
    deltas, signs = gains.mean(axis=1), _signs(clusters)
    extreme = (np.abs(signs @ sums.T / sizes.sum()) >= np.abs(deltas) - 1e-9).sum(axis=0)
    ps = extreme / len(signs) if 2**clusters <= 2**16 else (extreme + 1) / (len(signs) + 1)
    ends = [wide_enough((float(a), float(b)), one, sizes) for a, b, one in zip(lows, highs, sums, strict=True)]
    figures = zip(deltas.tolist(), ends, ps.tolist(), strict=True)
    return [Score(gains.shape[1], 0.5, 0.5 + delta, delta, end, p, clusters=clusters) for delta, end, p in figures]


def _f1s(rows: np.ndarray, said: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Macro F1 by counts of each label, which are the last axis: over the labels that are wanted at all."""
    f1s = np.where(rows > 0, 2 * hits / np.maximum(1, rows + said), 0.0)
    macro: np.ndarray = f1s.sum(axis=-1) / (rows > 0).sum(axis=-1)
    return macro


def _times(draws: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Counts of each label under each draw: draws × items by rounds × items × labels to draws × rounds × labels.

    In single precision, which is exact of counts and twice as fast.
    """
    rounds, n, labels = of.shape
    flat = of.transpose(1, 0, 2).reshape(n, -1).astype(np.float32)
    found: np.ndarray = (draws.astype(np.float32) @ flat).astype(float).reshape(len(draws), rounds, labels)
    return found


def scores_of_labels(some: Sequence[Labels]) -> list[Score]:
    """Macro F1, as `heldout` has it: counts of labels under the same resamples and swaps as those of `scores`.

    All have as many items and labels.
    """
    n, every = len(some[0].wanted), np.arange(max(one.wanted.max() for one in some) + 1)
    wanted, base, tuned = ((np.stack(side)[:, :, None] == every).astype(float) for side in zip(*some, strict=True))
    draws, swaps = _resamples(n), _signs(n) < 0
    rows = _times(draws, wanted)

    def drawn(side: np.ndarray) -> np.ndarray:
        return _f1s(rows, _times(draws, side), _times(draws, side * wanted))

    moved_said, moved_hits = _times(swaps, base - tuned), _times(swaps, (base - tuned) * wanted)

    def swapped(side: np.ndarray, way: int) -> np.ndarray:
        said, hits = side.sum(axis=1) + way * moved_said, (side * wanted).sum(axis=1) + way * moved_hits
        return _f1s(np.broadcast_to(wanted.sum(axis=1), said.shape), said, hits)

    before, after = (_f1s(*(part.sum(axis=1) for part in (wanted, s, s * wanted))) for s in (base, tuned))
    lows, highs = np.percentile(drawn(tuned) - drawn(base), _levels(n), axis=0)
    extreme = (np.abs(swapped(tuned, 1) - swapped(base, -1)) >= np.abs(after - before) - 1e-9).sum(axis=0)
    found = []
    for place, one in enumerate(some):
        weights = np.array(by_reference([str(label) for label in one.wanted]))
        gained = ((tuned[place] - base[place]) * wanted[place]).sum(axis=1) * weights
        ends = joined((float(lows[place]), float(highs[place])), gained, weights)
        low, high = float(before[place]), float(after[place])
        p_value = float((extreme[place] + 1) / (len(swaps) + 1))
        found.append(Score(n, low, high, high - low, ends, p_value, clusters=n))
    return found


class Calibrated(NamedTuple):
    """How sure both are of each answer, and whether each is right."""

    sure: np.ndarray
    base: np.ndarray
    tuned: np.ndarray


def calibration(rng: np.random.Generator, n: int, gap: float) -> Calibrated:
    """Two choices: both are from 50 to 100 % sure, base right so often, tuned by `gap` more rarely: their true ECE."""
    sure, draw = rng.uniform(0.5, 1.0, n), rng.random(n)
    return Calibrated(sure, (draw < sure).astype(float), (draw < sure - gap).astype(float))


def scores_of_calibration(one: Calibrated, rounds: int = RESAMPLES) -> tuple[Score, Score]:
    """`ece` and `brier` as `choice` has them of two choices: sums of bins under the resamples of `compare`."""
    n, draws = len(one.sure), _resamples(len(one.sure))[:rounds]
    bins = (np.ceil(one.sure * 10).astype(int)[:, None] == np.arange(1, 11)).astype(float)
    gaps = [bins * (one.sure - side)[:, None] for side in (one.base, one.tuned)]
    squares = [2 * (one.sure - side) ** 2 for side in (one.base, one.tuned)]

    def score(whole: list[float], drawn: list[np.ndarray]) -> Score:
        low, high = np.percentile(drawn[1] - drawn[0], _levels(n))
        ends = (float(low), float(high))
        return Score(n, whole[0], whole[1], whole[1] - whole[0], ends, 1.0, clusters=n, lower_is_better=True)

    ece = score([float(np.abs(g.sum(axis=0)).sum() / n) for g in gaps],
                [np.abs(draws @ g).sum(axis=1) / n for g in gaps])  # fmt: skip
    brier = score([float(s.mean()) for s in squares], [draws @ s / n for s in squares])
    ends = wide_enough(brier.ci95, squares[1] - squares[0], np.ones(n), 2.0)
    return ece, replace(brier, ci95=ends)


class FalsePasses(NamedTuple):
    """How often `non_inferior` would pass with the true loss for its margin, by the difference of each score."""

    by_ece: float
    by_brier: float


def false_passes_of_calibration(n: int, rounds: int, gap: float = MARGIN) -> FalsePasses:
    """Of a base of a true ECE of 0 and a tuned model of `gap`, which is what Brier's score loses here."""
    rng = np.random.default_rng([n, 1])
    found = [scores_of_calibration(calibration(rng, n, gap)) for _ in range(rounds)]
    return FalsePasses(*(float(np.mean([one[k].ci95[1] < gap for one in found])) for k in (0, 1)))


BETTER: Gate[Any] = BetterThan(BetterThanOptions(metric=METRIC))
NON_INFERIOR: Gate[Any] = NonInferior(NonInferiorOptions(metric=METRIC, margin=MARGIN))


def simulate(make: Make, n: int, gain: float, rounds: int, size: Size = 1, bootstrap: bool = False) -> Figures:
    """Of a true `gain`."""
    rng = np.random.default_rng([n, round(1e4 * (1 + gain))])
    drawn = [make(rng, n, gain) for _ in range(rounds)]
    named = [one for one in drawn if isinstance(one, Labels)]
    labelled = [one for start in range(0, len(named), BATCH) for one in scores_of_labels(named[start : start + BATCH])]
    found = labelled or scores(np.stack([sides[1] - sides[0] for sides in drawn]), size, bootstrap)
    lows, highs = (np.array([one.ci95[end] for one in found]) for end in (0, 1))
    passed = [[gate.judge(Evidence({METRIC: one})).passed for one in found] for gate in (BETTER, NON_INFERIOR)]
    below, above = float(np.mean(highs < gain - 1e-9)), float(np.mean(lows > gain + 1e-9))
    return Figures(1 - below - above, below, above, float(np.mean(passed[0])), float(np.mean(passed[1])))


def exact_coverage(n: int, discordance: float = DISCORDANCE) -> float:
    """How often the exact test keeps a true null at 5 %, by summing over how many change: more often than 95 %."""
    from scipy.stats import binom

    changed = np.arange(n + 1)
    needed = binom.isf(0.025, changed, 0.5) + 1
    return float(1 - (binom.pmf(changed, n, discordance) * 2 * binom.sf(needed - 1, changed, 0.5)).sum())


def grouped_one_way(rng: np.random.Generator, n: int, gain: float) -> Sides:
    """As `grouped`, with as few changes as the difference allows."""
    base, tuned = one_way(rng, n // 4, gain)
    return np.repeat(base, 4), np.repeat(tuned, 4)


UNEQUAL = (1, 2, 3, 6, 8)
"""Sizes of groups, in turn: 4 in the mean, as `grouped` has it."""


def unequal(rng: np.random.Generator, n: int, gain: float) -> Sides:
    """As `grouped`, in groups of unequal size."""
    sizes = sizes_of(n, UNEQUAL)
    base, tuned = answers(rng, len(sizes), gain)
    return np.repeat(base, sizes), np.repeat(tuned, sizes)


def confident(n: int, truth: float) -> float:
    """How often `threshold` with `confident` passes right/wrong answers of a true score at its bound: by summing."""
    from scipy.stats import binom

    right = np.arange(n + 1)
    passed = np.array([wilson(int(one), n)[0] >= truth for one in right])
    return float(binom.pmf(right, n, truth)[passed].sum())


def confident_of_scores(n: int, truth: float, rounds: int) -> float:
    """The same of scores from 0 to 1, near 0 and near 1, by simulation."""
    rng = np.random.default_rng([n, 2])
    grades = rng.beta(0.8 * truth, 0.8 * (1 - truth), (rounds, n))
    lows, highs = np.percentile(_resamples(n) @ grades.T / n, _levels(n), axis=0)
    ends = zip(lows.tolist(), highs.tolist(), grades.mean(axis=1).tolist(), strict=True)
    return float(np.mean([side_wide_enough((a, b), mean, np.ones(n))[0] >= truth for a, b, mean in ends]))


CASES: tuple[tuple[str, Make, Size, bool], ...] = (
    ("right/wrong, 20 % change", answers, 1, False),
    ("the same, by bootstrap", answers, 1, True),
    ("right/wrong, one way only", one_way, 1, False),
    ("scores from 0 to 1", partial, 1, False),
    ("the same, few change much", rarely_much, 1, False),
    ("right/wrong in groups of 4", grouped, 4, False),
    ("the same, one way only", grouped_one_way, 4, False),
    ("right/wrong in groups of 1 to 8", unequal, UNEQUAL, False),
    ("macro F1, one way only", labels, 1, False),
    ("the same, a rare label", rare_label, 1, False),
)
HEAD = ("what", "items", "false better", "power, +10", "false not worse", "power, 0", "coverage", "below", "above")


def lines(rounds: int) -> Iterator[str]:
    """The table: errors of the gates where nothing is true, their power where 10 points are gained, and coverage."""
    yield f"| {' | '.join(HEAD)} |"
    yield "|---" * len(HEAD) + "|"
    for name, make, size, bootstrap in CASES:
        for n in SIZES:
            null, margin, gained = (simulate(make, n, gain, rounds, size, bootstrap) for gain in (0.0, -MARGIN, 0.1))
            errors = (null.better, gained.better, margin.non_inferior, null.non_inferior)
            figures = (*errors, margin.covered, margin.below, margin.above)
            yield f"| {name} | {n} | {' | '.join(f'{100 * one:.1f}' for one in figures)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    given = parser.parse_args()
    start = time.perf_counter()
    for line in lines(given.rounds):
        print(line, flush=True)
    for n in (100, 400, 1000, 4000):
        false = false_passes_of_calibration(n, given.rounds)
        shares = f"ece {100 * false.by_ece:.1f} %, by brier {100 * false.by_brier:.1f} %"
        print(f"a lost calibration, n = {n}: passes by {shares}", flush=True)
    for n in SIZES:
        for truth in (0.8, 0.9, 0.97):
            both = confident(n, truth), confident_of_scores(n, truth, given.rounds)
            says = "right/wrong {:.1f} %, scores from 0 to 1 {:.1f} %".format(*(100 * one for one in both))
            print(f"confident threshold at a true {truth:g}, n = {n}: passes {says}", flush=True)
    for n in (40, 100, 400):
        print(f"exact McNemar, n = {n}: keeps a true null in {100 * exact_coverage(n):.1f} %")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
