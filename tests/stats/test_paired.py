"""Base against tuned: published worked examples, small simulations, and what happens at the edges."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.errors import Refused
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item, mean_of
from tunewright.stats.deltas import MeanDeltas, Pairs
from tunewright.stats.paired import clusters_of, compare
from tunewright.stats.proportion import wilson

Groups = Sequence[str | None] | None


def graded(grades: Sequence[float], groups: Groups = None, metric: str = "m") -> list[Graded]:
    answer = Completion([1], "x", "terminator", [1])
    return [
        Graded(Item(f"i{place}", f"t.csv:{place}", [], "x", groups[place] if groups else None), answer, {metric: grade})
        for place, grade in enumerate(grades)
    ]


def score(base: Sequence[float], tuned: Sequence[float], groups: Groups = None, seed: int = 0):
    return compare(graded(base, groups), graded(tuned, groups), "m", mean_of("m"), seed)


def from_table(both: int, lost: int, won: int, neither: int) -> tuple[list[float], list[float]]:
    base = [1.0] * (both + lost) + [0.0] * (won + neither)
    tuned = [1.0] * both + [0.0] * lost + [1.0] * won + [0.0] * neither
    return base, tuned


def opaque_mean(rows: Sequence[Graded]) -> float:
    """A mean that `compare` cannot recognise, for the grade has another name."""
    return sum(row.grades["m"] for row in rows) / len(rows)


# Darwin's plants: heights of 15 pairs, crossed against self-fertilized, in eighths of an inch.
# Fisher, The Design of Experiments, sections 14 and 21.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_mcnemar_gives_the_published_exact_p_value():
    # Fay, "Exact McNemar's Test and Matching Confidence Intervals" (vignette of the R package exact2x2): 0.06543.
    assert score(*from_table(21, 9, 2, 12)).p_value == pytest.approx(0.06543, abs=5e-6)


@pytest.mark.parametrize("table", [(794, 150, 86, 570), (0, 0, 5, 0), (3, 1, 1, 3), (10, 0, 1, 4), (50, 12, 30, 8)])
def test_mcnemar_agrees_with_statsmodels(table):
    from statsmodels.stats.contingency_tables import mcnemar

    both, lost, won, neither = table
    theirs = mcnemar([[both, lost], [won, neither]], exact=True).pvalue
    assert score(*from_table(*table)).p_value == pytest.approx(float(theirs))


def test_the_swap_test_gives_fishers_p_value_of_darwins_plants():
    # Fisher found a total of 314 or more in 863 of the 32,768 arrangements, on either side: 5.267 %.
    found = score([0.0] * 15, DARWIN)
    assert found.p_value == pytest.approx(2 * 863 / 2**15, abs=1e-12)
    assert found.delta == pytest.approx(314 / 15)


# Survival of treated mice, days: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, table 2.1.
MICE = [94.0, 197.0, 16.0, 38.0, 99.0, 141.0, 23.0]


def redrawn(grades: Sequence[float], groups: Groups = None):
    """Means of many resamples, as `compare` draws them."""
    rows = graded(grades, groups)
    pairs = Pairs(rows, rows, clusters_of([row.item for row in rows]))
    clusters = len(pairs.clusters)
    return MeanDeltas(pairs, "m").drawn(np.random.default_rng(0).integers(0, clusters, (100_000, clusters)))[0]


def test_the_bootstraps_standard_error_of_the_mice_is_the_published_one():
    # Efron and Tibshirani, table 2.2: of infinitely many resamples the treated mean, 86.86, has 23.36.
    means = redrawn(MICE)
    assert means.mean() == pytest.approx(86.86, abs=0.3)
    assert means.std() == pytest.approx(23.36, rel=0.01)


def test_groups_of_unequal_size_are_redrawn_as_the_error_of_a_ratio_has_it():
    # The mean over drawn groups is a ratio of sums; its error is Cochran's, Sampling Techniques, 1977, chapter 6.
    rng = np.random.default_rng(6)
    sizes = rng.integers(1, 9, 200)
    groups = np.repeat([f"g{group}" for group in range(200)], sizes).tolist()
    grades = np.repeat(rng.normal(1, 1, 200), sizes) + rng.normal(0, 0.5, sizes.sum())
    sums = np.array([grades[np.array(groups) == f"g{group}"].sum() for group in range(200)])
    error = math.sqrt(((sums - grades.mean() * sizes) ** 2).sum()) / sizes.sum()
    assert redrawn(grades.tolist(), groups).std() == pytest.approx(error, rel=0.03)


def test_the_interval_is_that_of_scipys_percentile_bootstrap():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(7)
    base, tuned = rng.random(80), rng.random(80) + 0.1
    theirs = bootstrap(
        (tuned - base,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert score(base.tolist(), tuned.tolist()).ci95 == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(200):
        base, tuned = (rng.random(80) < 0.5).astype(float), (rng.random(80) < 0.6).astype(float)
        low, high = score(base.tolist(), tuned.tolist(), seed=seed).ci95
        held += low <= 0.1 <= high
    assert 182 <= held <= 199


def test_p_values_under_no_effect_are_small_as_rarely_as_they_say():
    rng = np.random.default_rng(5)
    ps = [score(rng.random(20).tolist(), rng.random(20).tolist(), seed=seed).p_value for seed in range(200)]
    assert sum(p <= 0.05 for p in ps) <= 20
    assert 0.4 < np.mean(ps) < 0.6


def test_a_mean_gives_the_same_figures_vectorised_and_by_the_summary():
    rng = np.random.default_rng(11)
    base, tuned = rng.random(40).tolist(), (rng.random(40) + 0.2).tolist()
    groups = [f"g{place // 3}" for place in range(40)]
    fast = score(base, tuned, groups)
    slow = compare(graded(base, groups), graded(tuned, groups), "other", opaque_mean, 0)
    assert (fast.base, fast.tuned, fast.delta) == (slow.base, slow.tuned, slow.delta)
    assert fast.ci95 == pytest.approx(slow.ci95, abs=1e-12)  # 14 groups changed: enough for a bootstrap alone
    assert slow.p_value == pytest.approx(fast.p_value, abs=0.02)  # drawn swaps against all 2**14


def test_a_summary_that_is_no_mean_is_not_taken_for_one():
    def median(rows: Sequence[Graded]) -> float:
        return float(np.median([row.grades["m"] for row in rows]))

    rng = np.random.default_rng(2)
    base, tuned = rng.random(31).tolist(), (rng.random(31) ** 4).tolist()
    by_name = compare(graded(base), graded(tuned), "m", median, 0)
    unnamed = compare(graded(base), graded(tuned), "other", median, 0)
    # Of a score that is known to be made of grades from 0 to 1 the intervals are joined with Tango's and Wilson's.
    intervals = {"ci95": (0.0, 0.0), "base_ci95": None, "tuned_ci95": None}
    assert replace(by_name, **intervals) == replace(unnamed, **intervals)
    assert by_name.delta == pytest.approx(float(np.median(tuned) - np.median(base)))


def test_items_of_a_group_are_drawn_together():
    # Ten copies of ten items hold no more than the ten: the interval stays as wide, and the p-value as large.
    base, tuned = [0.0] * 10, [2.0] * 7 + [0.0] * 3
    groups = [f"document {place}" for place in range(10) for _ in range(10)]
    ten = score(base, tuned)
    hundred = score(ten_times(base), ten_times(tuned), groups)
    assert (hundred.n, hundred.clusters) == (100, 10)
    assert hundred.ci95 == pytest.approx(ten.ci95, abs=1e-9)
    assert hundred.p_value == pytest.approx(ten.p_value) == pytest.approx(2 / 2**7)
    right = score(ten_times([0.0] * 10), ten_times([1.0] * 7 + [0.0] * 3), groups)
    assert right.p_value == pytest.approx(2 / 2**7), "McNemar's test is not believed where answers hang together"
    assert right.p_mid is None
    assert score(ten_times([0.0] * 10), ten_times([1.0] * 7 + [0.0] * 3)).p_value < 1e-6


def ten_times(grades: Sequence[float]) -> list[float]:
    return [grade for grade in grades for _ in range(10)]


def test_rows_pair_by_id_and_not_by_place():
    rng = np.random.default_rng(0)
    base, tuned = graded(rng.random(30).tolist()), graded(rng.random(30).tolist())
    mixed = [tuned[place] for place in rng.permutation(30)]
    straight, shuffled = (compare(base, other, "m", mean_of("m"), 0) for other in (tuned, mixed))
    assert shuffled.ci95 == straight.ci95
    assert shuffled.p_value == straight.p_value


@pytest.mark.parametrize(
    ("base", "tuned", "said"),
    [
        (graded([1, 0]), graded([1]), "one side only, such as `i1`"),
        (graded([1]), graded([1, 0]), "one side only"),
        (graded([1]), [], "one side only"),
        (graded([1]) * 2, graded([1, 1]), "graded one item twice"),
        (graded([1, 1]), graded([1]) * 2, "graded one item twice"),
        (graded([1.0]), graded([math.nan]), "`m` of tuned is nan"),
        (graded([math.inf]), graded([1.0]), "`m` of base is inf"),
    ],
)
def test_what_does_not_pair_or_is_no_number_is_refused(base, tuned, said):
    with pytest.raises(Refused, match=said):
        compare(base, tuned, "m", mean_of("m"), 0)


def test_no_items_say_nothing():
    found = score([], [])
    assert (found.n, found.delta, found.p_value) == (0, 0.0, 1.0)


def test_one_item_proves_nothing():
    found = score([0.0], [2.5])
    assert (found.n, found.clusters, found.delta, found.ci95, found.p_value) == (1, 1, 2.5, (2.5, 2.5), 1.0)
    right = score([0.0], [1.0])
    assert right.ci95[0] < 0 < right.ci95[1], "one right answer more leaves everything possible"
    assert right.p_value == 1.0


@pytest.mark.parametrize("grades", [[0, 1] * 20, [0.3, 0.7] * 20])
def test_the_same_model_twice_has_no_difference(grades):
    found = score(grades, grades)
    assert (found.base, found.delta, found.p_value) == (found.tuned, 0.0, 1.0)
    assert found.base_ci95 == found.tuned_ci95


def test_the_same_model_twice_has_no_difference_by_any_summary_or_grouping():
    rng = np.random.default_rng(9)
    grades = (rng.random(40) < 0.6).astype(float).tolist()
    groups = [f"g{place // 4}" for place in range(40)]
    for found in (
        score(grades, grades, groups),
        compare(graded(grades), graded(grades), "macro_f1", macro_f1, 0),
    ):
        assert (found.delta, found.p_value) == (0.0, 1.0)
        assert found.base == found.tuned


def test_equal_answers_to_few_questions_do_not_prove_that_nothing_changed():
    # z² / (n + z²): what Tango's interval is where nothing changed.
    assert score([0, 1] * 20, [0, 1] * 20).ci95 == pytest.approx((-0.08762, 0.08762), abs=5e-6)
    assert score([0, 1] * 2000, [0, 1] * 2000).ci95 == pytest.approx((-0.00096, 0.00096), abs=5e-6)
    groups = [f"g{place // 4}" for place in range(160)]
    assert score([0, 1] * 80, [0, 1] * 80, groups).ci95 == pytest.approx((-0.08762, 0.08762), abs=5e-6)
    assert score([0.3, 0.7] * 20, [0.3, 0.7] * 20).ci95 == pytest.approx((-0.08762, 0.08762), abs=5e-6)


def test_groups_that_were_all_won_do_not_prove_that_all_would_be():
    """Less is known of twelve documents than of their 48 questions: no more than of twelve questions alone."""
    groups = [f"g{place // 4}" for place in range(48)]
    grouped, alone = score([0.0] * 48, [1.0] * 48, groups), score([0.0] * 12, [1.0] * 12)
    assert grouped.ci95 == pytest.approx(alone.ci95, abs=1e-6)
    assert alone.ci95[0] < 0.6


def test_changes_that_are_all_alike_but_one_do_not_either():
    low, high = score([0.0] * 40, [1.0] * 39 + [0.5]).ci95
    assert (low < 0.9, high) == (True, 1.0)
    low, high = score([0.5] * 40, [0.6] * 40).ci95
    assert low < 0.05 < 0.15 < high


@pytest.mark.parametrize("n", [40, 100, 400])
def test_a_loss_that_is_rare_may_be_among_none_of_the_items(n):
    """Two items of so many would lose 0.8 of 1; none did, though every one moved a little."""
    rng = np.random.default_rng(n)
    tuned = (0.9 + rng.choice((-0.02, 0.02), n)).tolist()
    assert score([0.9] * n, tuned).ci95[0] < -0.8 * 2 / n


def test_each_side_has_its_own_interval():
    # Wilson's, of Newcombe's example: 15 of 148 (Statistics in Medicine 17, 1998, 857-872).
    found = score([1.0] * 15 + [0.0] * 133, [1.0] * 30 + [0.0] * 118)
    assert found.base_ci95 == pytest.approx((0.0624, 0.1605), abs=5e-5)
    rng = np.random.default_rng(1)
    grouped = score((rng.random(60) < 0.3).tolist(), [0.25] * 60, [f"g{place // 2}" for place in range(60)])
    assert grouped.base_ci95[0] < grouped.base < grouped.base_ci95[1]


@pytest.mark.parametrize("groups", [None, [f"g{place // 3}" for place in range(30)]])
def test_answers_that_are_graded_alike_do_not_prove_that_all_would_be(groups):
    # Wilson's, of 30 of 30 and of 10 of 10: n / (n + z²). A group that is right as a whole is one answer.
    n = 30 if groups is None else 10
    found = score([0.5] * 30, [1.0] * 30, groups)
    assert found.tuned_ci95 == pytest.approx((n / (n + 1.959964**2), 1.0), abs=1e-6)
    assert found.base_ci95[0] < 0.5 < found.base_ci95[1]
    mirrored = score([0.5] * 30, [0.0] * 30, groups)
    assert mirrored.tuned_ci95 == pytest.approx((0.0, 1.959964**2 / (n + 1.959964**2)), abs=1e-6)


def test_grades_between_other_bounds_have_a_width_where_few_changed():
    # Twice what the halves have: Brier's score of choices is from 0 to 2.
    grades = [0.4, 1.6] * 20
    few = [*grades[:37], 0.0, 2.0, 0.1]
    for tuned in (grades, few):
        halves = score([one / 2 for one in grades], [one / 2 for one in tuned])
        found = compare(graded(grades), graded(tuned), "m", mean_of("m"), 0, largest=2.0)
        for field in ("ci95", "base_ci95", "tuned_ci95"):
            assert getattr(found, field) == pytest.approx([2 * end for end in getattr(halves, field)]), field
        assert found.p_value == halves.p_value
    assert score(grades, grades).ci95 == (0.0, 0.0), "of grades beyond 1 nothing is known without their bounds"


def test_a_side_of_grades_that_are_no_shares_keeps_its_bootstrap():
    found = score([0.5] * 40, [2.0] * 40)
    assert (found.base_ci95, found.tuned_ci95) == ((0.5, 0.5), (2.0, 2.0))


@pytest.mark.parametrize("truth", [0.9, 0.97])
def test_the_bound_of_a_skewed_side_lies_above_the_truth_as_rarely_as_it_says(truth):
    rng, rounds, above = np.random.default_rng(1), 200, 0
    for seed in range(rounds):
        tuned = rng.beta(truth * 0.8, (1 - truth) * 0.8, 40)
        above += score([0.5] * 40, tuned.tolist(), seed=seed).tuned_ci95[0] > truth
    assert above <= 0.025 * rounds


def test_few_items_widen_the_bootstrap_as_students_t_does():
    from scipy.stats import t

    rng = np.random.default_rng(8)
    tuned = rng.normal(1, 1, 10)
    half = t.ppf(0.975, 9) * tuned.std(ddof=1) / math.sqrt(10)
    low, high = score([0.0] * 10, tuned.tolist()).ci95
    assert (high - low) / 2 == pytest.approx(half, rel=0.12)


def concerning(grades: dict[int, float]) -> list[Graded]:
    """Twelve items; those named have the grade `m`, all have `other`."""
    rows = graded([0.5] * 12, metric="other")
    return [
        Graded(row.item, row.answer, {**row.grades, **({"m": grades[place]} if place in grades else {})})
        for place, row in enumerate(rows)
    ]


def test_a_metric_of_a_part_of_the_items_is_compared_on_that_part():
    base, tuned = dict.fromkeys(range(8), 0.0), dict.fromkeys(range(8), 1.0)
    found = compare(concerning(base), concerning(tuned), "m", mean_of("m"), 0)
    alone = score([0.0] * 8, [1.0] * 8)
    assert found == alone
    assert (found.n, found.clusters) == (8, 8)


def test_a_grade_that_one_side_alone_has_is_refused():
    base, tuned = dict.fromkeys(range(8), 0.0), dict.fromkeys(range(7), 1.0)
    with pytest.raises(Refused, match="`m` of the item `i7` was graded for base alone"):
        compare(concerning(base), concerning(tuned), "m", mean_of("m"), 0)


def test_which_way_is_better_stands_in_the_score():
    sides = graded([1.0, 2.0]), graded([1.0, 1.0])
    assert compare(*sides, "m", mean_of("m"), 0, lower_is_better=True).lower_is_better
    assert compare([], [], "m", mean_of("m"), 0, lower_is_better=True).lower_is_better
    assert not compare(*sides, "m", mean_of("m"), 0).lower_is_better


def test_a_swap_on_which_a_summary_is_undefined_speaks_against_the_difference():
    def strange(rows: Sequence[Graded]) -> float:
        values = [row.grades["m"] for row in rows]
        return sum(values) / len(values) if sum(values) in (0.0, 6.0) else math.nan

    found = compare(graded([0.0] * 6), graded([1.0] * 6), "other", strange, 0)
    assert found.p_value == 1.0
    assert found.ci95 == (1.0, 1.0)


def test_the_same_seed_gives_the_same_figures():
    rng = np.random.default_rng(4)
    base, tuned = rng.random(50).tolist(), rng.random(50).tolist()
    assert score(base, tuned, seed=3) == score(base, tuned, seed=3)
    assert score(base, tuned, seed=3).ci95 != score(base, tuned, seed=4).ci95


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=30))
def test_exchanging_the_sides_mirrors_the_comparison(pairs):
    base, tuned = [b for b, _ in pairs], [t for _, t in pairs]
    there, back = score(base, tuned), score(tuned, base)
    assert there.delta == -back.delta
    assert there.p_value == pytest.approx(back.p_value)
    assert there.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]), abs=1e-9)
    assert 0 < there.p_value <= 1


def macro_f1(rows: Sequence[Graded]) -> float:
    labels = {row.item.reference for row in rows}
    hits = {label: sum(row.item.reference == label and row.grades["m"] == 1 for row in rows) for label in labels}
    return sum(2 * hits[label] / (len(rows) + hits[label]) for label in labels) / len(labels)


def by_label(rows: Sequence[Graded]) -> float:
    """Macro F1 where a wrong answer is no label: of so many rows and hits each has 2 hits / (rows + hits)."""
    labels = {row.item.reference for row in rows}
    counts = [[row.grades["m"] for row in rows if row.item.reference == label] for label in labels]
    return sum(2 * sum(one) / (len(one) + sum(one)) for one in counts) / len(labels)


def labelled(right: Sequence[bool], labels: Sequence[str]) -> list[Graded]:
    rows = graded([float(one) for one in right])
    return [
        Graded(Item(row.item.id, row.item.origin, [], label), row.answer, row.grades)
        for row, label in zip(rows, labels, strict=True)
    ]


@pytest.mark.parametrize(("labels", "n"), [("ab" * 10, 20), ("a" * 15 + "b" * 5, 10), ("a" * 19 + "b", 2)])
def test_a_macro_score_is_as_open_as_its_rarest_label(labels, n):
    # Tango's z² / (n + z²) where nothing changed. Of two labels as common as each other n is the items; else a rare
    # label's items count for more, and n is so small that none of them counts for more than one.
    same = labelled([place > 2 for place in range(20)], labels)
    found = compare(same, same, "m", by_label, 0)
    half = 1.959964**2 / (n + 1.959964**2)
    assert (found.delta, found.p_value) == (0.0, 1.0)
    assert found.ci95 == pytest.approx((-half, half), abs=1e-6)
    low, high = wilson(found.tuned * n, n)
    assert found.tuned_ci95 == found.base_ci95
    assert found.tuned_ci95[0] <= low < high <= found.tuned_ci95[1]


@pytest.mark.parametrize("wrong", [3, 12])
def test_a_macro_score_of_a_rare_label_stays_open_however_many_of_the_others_changed(wrong):
    base, tuned = (labelled([place >= many for place in range(60)], "a" * 56 + "b" * 4) for many in (0, wrong))
    found, alone = (compare(base, tuned, name, by_label, 0) for name in ("m", "other"))  # no grade is called `other`
    assert found.delta > alone.ci95[0] > found.ci95[0] + 0.1


def test_a_summary_of_400_items_takes_seconds_at_most():
    rng = np.random.default_rng(1)
    base, tuned = (graded((rng.random(400) < share).astype(float).tolist()) for share in (0.4, 0.5))
    start = time.process_time()
    found = compare(base, tuned, "macro_f1", macro_f1, 0)
    assert time.process_time() - start < 6  # about 1.5 s on an idle core
    assert found.ci95[0] < found.delta < found.ci95[1]
