"""How often gates and intervals are wrong, by simulation: the table of docs/explanation/statistics.md.

    python tests/bench/gates_err.py [--rounds 2000]

Each round draws one evaluation and judges it by the gates. The figures of a round are those of `compare` with the seed
0, for all rounds at once: a resample is a row of counts, so that the means of 2,000 resamples are one product of
matrices (`tests/stats/test_gates_err_as_rarely_as_they_say.py` holds them against `compare`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tunewright.parts.gate import Evidence, Gate, Score
from tunewright.stats import changes
from tunewright.stats.deltas import by_reference
from tunewright.stats.paired import RESAMPLES, _all_swaps, _drawn_swaps, _levels, joined, wide_enough
from tunewright_basics.better_than import BetterThan, BetterThanOptions
from tunewright_basics.non_inferior import NonInferior, NonInferiorOptions

DISCORDANCE, MARGIN, METRIC, SIZES = 0.2, 0.05, "m", (40, 48, 100, 400)
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


def scores(gains: np.ndarray, size: int = 1, bootstrap: bool = False) -> list[Score]:
    """Of the difference of each item (rounds × items); `size` equal items make a group.

    With `bootstrap`, right/wrong items are compared as scores are.
    """
    if size == 1 and not bootstrap and np.isin(gains, (-1, 0, 1)).all():
        counts = zip((gains == 1).sum(axis=1), (gains == -1).sum(axis=1), strict=True)
        return [_of_counts(int(won), int(lost), gains.shape[1]) for won, lost in counts]
    by_group = gains.reshape(len(gains), -1, size).mean(axis=2)
    clusters = by_group.shape[1]
    lows, highs = np.percentile(_resamples(clusters) @ by_group.T / clusters, _levels(clusters), axis=0)
    deltas, signs = by_group.mean(axis=1), _signs(clusters)
    extreme = (np.abs(signs @ by_group.T / clusters) >= np.abs(deltas) - 1e-12).sum(axis=0)
    ps = extreme / len(signs) if 2**clusters <= 2**16 else (extreme + 1) / (len(signs) + 1)
    sizes = np.full(clusters, size)
    ends = [
        wide_enough((float(a), float(b)), one * size, sizes) for a, b, one in zip(lows, highs, by_group, strict=True)
    ]
    figures = zip(deltas.tolist(), ends, ps.tolist(), strict=True)
    return [Score(gains.shape[1], 0.5, 0.5 + delta, delta, end, p, clusters=clusters) for delta, end, p in figures]


def _f1s(rows: np.ndarray, said: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Macro F1 by counts of each label (draws × labels): over the labels that are wanted at all."""
    f1s = np.where(rows > 0, 2 * hits / np.maximum(1, rows + said), 0.0)
    macro: np.ndarray = f1s.sum(axis=1) / (rows > 0).sum(axis=1)
    return macro


def score_of_labels(one: Labels) -> Score:
    """Macro F1, as `heldout` has it: counts of labels under the same resamples and swaps as those of `scores`."""
    n, every = len(one.wanted), np.arange(one.wanted.max() + 1)
    wanted, base, tuned = ((side[:, None] == every).astype(float) for side in one)
    draws, swaps = _resamples(n), _signs(n) < 0

    def drawn(side: np.ndarray) -> np.ndarray:
        return _f1s(draws @ wanted, draws @ side, draws @ (side * wanted))

    def swapped(side: np.ndarray, other: np.ndarray) -> np.ndarray:
        said, hits = (a.sum(axis=0) + swaps @ (b - a) for a, b in ((side, other), (side * wanted, other * wanted)))
        return _f1s(np.broadcast_to(wanted.sum(axis=0), said.shape), said, hits)

    before, after = (
        float(_f1s(*(part.sum(axis=0)[None] for part in (wanted, s, s * wanted)))[0]) for s in (base, tuned)
    )
    low, high = np.percentile(drawn(tuned) - drawn(base), _levels(n))
    weights = np.array(by_reference([str(label) for label in one.wanted]))
    gained = ((tuned - base) * wanted).sum(axis=1) * weights
    found = np.abs(swapped(tuned, base) - swapped(base, tuned))
    p_value = float((np.count_nonzero(found >= abs(after - before) - 1e-12) + 1) / (len(found) + 1))
    ends = joined((float(low), float(high)), gained, weights)
    return Score(n, before, after, after - before, ends, p_value, clusters=n)


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
        return Score(n, *whole, whole[1] - whole[0], ends, 1.0, clusters=n, lower_is_better=True)

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


def simulate(make: Make, n: int, gain: float, rounds: int, size: int = 1, bootstrap: bool = False) -> Figures:
    """Of a true `gain`."""
    rng = np.random.default_rng([n, round(1e4 * (1 + gain))])
    drawn = [make(rng, n, gain) for _ in range(rounds)]
    labelled = [score_of_labels(one) for one in drawn if isinstance(one, Labels)]
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


CASES: tuple[tuple[str, Make, int, bool], ...] = (
    ("right/wrong, 20 % change", answers, 1, False),
    ("the same, by bootstrap", answers, 1, True),
    ("right/wrong, one way only", one_way, 1, False),
    ("scores from 0 to 1", partial, 1, False),
    ("right/wrong in groups of 4", grouped, 4, False),
    ("the same, one way only", grouped_one_way, 4, False),
    ("macro F1, one way only", labels, 1, False),
    ("the same, a rare label", rare_label, 1, False),
)
HEAD = ("what", "items", "false better", "power, +10", "false not worse", "power, 0", "coverage", "below", "above")


def lines(rounds: int) -> Iterator[str]:
    """The table: errors of the gates where nothing is true, their power where 10 points are gained, and coverage."""
    yield f"| {' | '.join(HEAD)} |"
    yield "|---" * len(HEAD) + "|"
    for name, make, size, bootstrap in CASES:
        of = rounds // 8 if make in (labels, rare_label) else rounds  # they take the longest, a hundredth of a second
        for n in SIZES:
            null, margin, gained = (simulate(make, n, gain, of, size, bootstrap) for gain in (0.0, -MARGIN, 0.1))
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
    for n in (40, 100, 400):
        print(f"exact McNemar, n = {n}: keeps a true null in {100 * exact_coverage(n):.1f} %")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
