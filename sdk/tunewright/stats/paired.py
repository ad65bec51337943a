"""Base against tuned on the same items: the difference, how far it may be off, and whether chance explains it.

    score = compare(base, tuned, "exact_match", mean_of("exact_match"), seed=0)

Items are the unit of chance, or their groups where they have any: the questions on one document stand or fall together.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tunewright.errors import Refused
from tunewright.parts.evaluator import Graded, Summary, mean_of
from tunewright.parts.gate import Score
from tunewright.stats.deltas import Deltas, MeanDeltas, Pairs, SummaryDeltas

if TYPE_CHECKING:
    import numpy as np

    from tunewright.stats.deltas import Flags

RESAMPLES = 2_000
BLOCK = 4_000_000
"""Drawn places held at once, so that memory stays bounded: 32 MB."""
VISITS = 1_000_000
"""Graded items handed to a summary for an interval, about; above 500 items fewer resamples are drawn, at least 400."""


def compare(base: Sequence[Graded], tuned: Sequence[Graded], metric: str, summary: Summary, seed: int) -> Score:
    """Score of both and their difference, paired by item id. Equal arguments give equal figures.

    The interval is the 95 % percentile bootstrap of the paired difference (Efron and Tibshirani, An Introduction to
    the Bootstrap, 1993, chapter 13). The p-value is McNemar's exact test where the score is a mean of zeros and ones
    (McNemar, Psychometrika 12, 1947) and a paired label-swap permutation test elsewhere. `summary` sees an item as
    often as it was drawn. Raises `Refused` where items do not pair or a score is not a finite number.

    Where nothing differs between items, or there is one item only, the interval has no width: `n` says how little
    that proves. No items at all give zeros and p = 1.
    """
    pairs = _pair(base, tuned)
    if not pairs.base:
        return Score(0, 0.0, 0.0, 0.0, (0.0, 0.0), 1.0)
    before, after = _finite(summary(pairs.base), metric, "base"), _finite(summary(pairs.tuned), metric, "tuned")
    if pairs.alike:  # every redraw of it would say the same
        return Score(len(pairs.base), before, after, 0.0, (0.0, 0.0), 1.0)
    is_mean = _is_mean(pairs, metric, summary)
    deltas: Deltas = MeanDeltas(pairs, metric) if is_mean else SummaryDeltas(pairs, summary)
    rounds = RESAMPLES if is_mean else max(400, min(RESAMPLES, VISITS // len(pairs.base)))
    if is_mean and pairs.independent and _is_binary(pairs, metric):
        p_value = _mcnemar(pairs, metric)
    else:
        p_value = _swap_test(deltas, len(pairs.clusters), rounds, seed)
    return Score(len(pairs.base), before, after, after - before, _interval(deltas, pairs, rounds, seed), p_value)


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
    places: dict[tuple[str, str], list[int]] = {}
    for place, graded in enumerate(base):
        group = graded.item.group
        places.setdefault(("item", graded.item.id) if group is None else ("group", group), []).append(place)
    return Pairs(base, [by_id[name] for name in ids], list(places.values()))


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


def _mcnemar(pairs: Pairs, metric: str) -> float:
    """Exact and two-sided: the discordant pairs are tosses of a fair coin if tuning changed nothing."""
    changes = [t.grades[metric] - b.grades[metric] for b, t in zip(pairs.base, pairs.tuned, strict=True)]
    won, lost = changes.count(1), changes.count(-1)
    return _two_sided(min(won, lost), won + lost)


def _two_sided(fewer: int, tosses: int) -> float:
    """Chance that of so many tosses of a fair coin one side, whichever, shows at most `fewer` times.

    In whole numbers, so that it is exact; importing `scipy.stats` for it would take longer than many an evaluation.
    """
    ways = term = 1
    for shown in range(fewer):
        term = term * (tosses - shown) // (shown + 1)
        ways += term
    return min(1.0, 2 * ways / 2**tosses)


def _interval(deltas: Deltas, pairs: Pairs, rounds: int, seed: int) -> tuple[float, float]:
    """Percentiles of the difference over resampled clusters; resamples on which a summary is undefined are left out."""
    import numpy as np

    rng, size = np.random.default_rng(seed), len(pairs.clusters)
    found = np.concatenate([deltas.drawn(rng.integers(0, size, (rows, size))) for rows in _blocks(rounds, size)])
    found = found[np.isfinite(found)]
    if not found.size:
        raise Refused("a score is undefined on every resample of its items")
    low, high = np.percentile(found, [2.5, 97.5])
    return (float(low), float(high))


def _swap_test(deltas: Deltas, clusters: int, rounds: int, seed: int) -> float:
    """Share of label swaps with a difference at least as large; every swap where they are few, else drawn ones.

    Source: Fisher, The Design of Experiments, 1935, section 21; with the observed one counted among the drawn ones,
    Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), article 39.
    """
    import numpy as np

    observed = abs(deltas.swapped(np.zeros((1, clusters), dtype=bool))[0])
    exact = 2**clusters <= (2**16 if isinstance(deltas, MeanDeltas) else rounds)
    swaps = _all_swaps(clusters) if exact else _drawn_swaps(clusters, rounds, np.random.default_rng(seed))
    found = np.concatenate([np.abs(deltas.swapped(swap)) for swap in swaps])
    # Counted by what is not smaller, so that a swap on which the summary is undefined speaks against the difference.
    extreme = int(np.count_nonzero(~(found < observed - 1e-12 * max(1.0, observed))))
    return extreme / len(found) if exact else (extreme + 1) / (len(found) + 1)


def _all_swaps(clusters: int) -> Iterator[Flags]:
    import numpy as np

    yield (np.arange(2**clusters)[:, None] >> np.arange(clusters)) % 2 == 1


def _drawn_swaps(clusters: int, rounds: int, rng: np.random.Generator) -> Iterator[Flags]:
    for rows in _blocks(rounds, clusters):
        yield rng.integers(0, 2, (rows, clusters)) == 1


def _blocks(rounds: int, size: int) -> Iterator[int]:
    step = max(1, BLOCK // size)
    yield from (min(step, rounds - start) for start in range(0, rounds, step))
