"""False passes of the gates, their power, and coverage of the intervals: as docs/explanation/statistics.md says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item, mean_of
from tunewright.stats.paired import compare
from tunewright_basics.heldout import macro_f1

BENCH = Path(__file__).parents[1] / "bench" / "gates_err.py"
ROUNDS = 2_000


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_gates_err", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize(
    "case", ["answers", "one_way", "partial", "rarely_much", "grouped", "grouped_one_way", "unequal"]
)
def test_what_is_simulated_is_what_a_run_computes(bench, case):
    size = {"grouped": 4, "grouped_one_way": 4, "unequal": bench.UNEQUAL}.get(case, 1)
    rng, sizes = np.random.default_rng(1), bench.sizes_of(48, size)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    pairs = [getattr(bench, case)(rng, 48, -0.05) for _ in range(3)]
    answer = Completion([], "", "given", [])
    items = [Item(f"i{n}", "", "", "", f"g{groups[n]}" if size != 1 else None) for n in range(48)]
    for (base, tuned), fast in zip(pairs, bench.scores(np.stack([t - b for b, t in pairs]), size), strict=True):
        sides = [
            [Graded(i, answer, {"m": g}) for i, g in zip(items, side.tolist(), strict=True)] for side in (base, tuned)
        ]
        slow = compare(*sides, "m", mean_of("m"), 0)
        assert fast.ci95 == pytest.approx(slow.ci95, abs=1e-9)
        assert (fast.p_value, fast.delta, fast.clusters) == pytest.approx((slow.p_value, slow.delta, slow.clusters))


@pytest.mark.parametrize("case", ["labels", "rare_label"])
def test_what_is_simulated_of_labels_is_what_a_run_computes(bench, case):
    rng = np.random.default_rng(2)
    _, drawn = both = [getattr(bench, case)(rng, 48, -0.1) for _ in range(2)]
    items = [Item(f"i{n}", "", "", str(label)) for n, label in enumerate(drawn.wanted)]
    sides = [
        [
            Graded(item, Completion([], str(said), "given", []), {"macro_f1": float(said == label)})
            for item, said, label in zip(items, side, drawn.wanted, strict=True)
        ]
        for side in (drawn.base, drawn.tuned)
    ]
    slow, fast = compare(*sides, "macro_f1", macro_f1, 0), bench.scores_of_labels(both)[1]
    assert fast.ci95 == pytest.approx(slow.ci95, abs=1e-9)
    assert (fast.p_value, fast.base, fast.delta) == pytest.approx((slow.p_value, slow.base, slow.delta))


@pytest.mark.slow
@pytest.mark.parametrize("items", [40, 48, 100, 400])
def test_gates_pass_falsely_in_at_most_6_5_percent(bench, items):
    for name, make, size, bootstrap in bench.CASES:
        null = bench.simulate(make, items, 0.0, ROUNDS, size, bootstrap)
        margin = bench.simulate(make, items, -bench.MARGIN, ROUNDS, size, bootstrap)
        assert null.better <= 0.065, name
        assert margin.non_inferior <= 0.065, name


@pytest.mark.slow
@pytest.mark.parametrize("items", [40, 48, 100, 400])
@pytest.mark.parametrize("truth", [0.8, 0.9, 0.97])
def test_a_confident_threshold_passes_falsely_in_at_most_6_5_percent(bench, items, truth):
    assert bench.confident(items, truth) <= 0.065
    assert bench.confident_of_scores(items, truth, ROUNDS) <= 0.065


@pytest.mark.slow
def test_bootstrap_intervals_of_400_items_cover_as_they_say(bench):
    for gain in (0.0, 0.05):
        assert 0.93 <= bench.simulate(bench.answers, 400, gain, ROUNDS, bootstrap=True).covered <= 0.97
        assert 0.93 <= bench.simulate(bench.answers, 400, gain, ROUNDS).covered <= 0.97


@pytest.mark.slow
def test_gates_find_what_is_there(bench):
    assert bench.simulate(bench.answers, 400, 0.1, ROUNDS).better > 0.95
    assert bench.simulate(bench.answers, 400, 0.0, ROUNDS).non_inferior > 0.5
