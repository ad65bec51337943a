"""What seeds differ by is kept apart from what items differ by."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.errors import BadInput, Refused
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item
from tunewright.stats.seeds import between, parted


def graded(grades, size=1, metric="m"):
    answer = Completion([], "", "given", [])
    return [
        Graded(Item(f"i{place}", "", "", "", f"g{place // size}" if size > 1 else None), answer, {metric: float(grade)})
        for place, grade in enumerate(grades)
    ]


def of(table, size=1):
    """Gains by seed over a base of zeros."""
    seeds = {str(seed): graded(row, size) for seed, row in enumerate(table)}
    return between(seeds, graded([0.0] * len(table[0]), size), "m")


def test_seeds_that_differ_by_a_constant_are_told_exactly():
    items = np.array([0.0, 1.0, 2.0, 3.0])
    found = of([items, items + 1, items + 2])
    assert (found.seeds, found.n, found.gain) == (3, 4, pytest.approx(2.5))
    assert found.by_seed == pytest.approx({"0": 1.5, "1": 2.5, "2": 3.5})
    assert found.sd_seeds == pytest.approx(1.0)
    assert found.se_items == pytest.approx(items.std(ddof=1) / 2)


def test_equal_trainings_have_no_variance_between_seeds():
    items = [0.0, 1.0, 1.0, 0.0, 1.0]
    found = of([items, items])
    assert (found.sd_seeds, found.se_seeds) == (0.0, 0.0)
    assert found.ci95[0] < found.gain < found.ci95[1]


def test_the_mean_squares_are_those_of_statsmodels():
    import pandas as pd
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    table = np.random.default_rng(3).normal(size=(4, 9)) + np.arange(4)[:, None]
    rows = [(seed, item, table[seed, item]) for seed in range(4) for item in range(9)]
    squares = anova_lm(smf.ols("y ~ C(seed) + C(item)", pd.DataFrame(rows, columns=["seed", "item", "y"])).fit())
    mean = squares["sum_sq"] / squares["df"]
    found = of(table)
    assert found.sd_seeds**2 == pytest.approx((mean["C(seed)"] - mean["Residual"]) / 9)
    assert found.se_items**2 == pytest.approx(mean["C(item)"] / 36)


def test_the_mean_squares_are_those_of_shrout_and_fleiss():
    # Six targets rated by the same four judges: Shrout and Fleiss, Intraclass correlations: uses in assessing rater
    # reliability, Psychological Bulletin 86 (1979) 420-428, tables 2 and 3: mean squares between targets 11.24, between
    # judges 32.49, of the rest 1.02. Judges are here the seeds, targets the items.
    ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
    found = of(ratings.T)
    assert found.sd_seeds**2 == pytest.approx((32.49 - 1.02) / 6, abs=0.003)
    assert found.se_items**2 == pytest.approx(11.24 / 24, abs=0.001)


@pytest.mark.parametrize(("seeds", "least"), [(2, 0.915), (3, 0.935), (5, 0.935)])
@pytest.mark.parametrize("apart", [0.0, 0.05, 0.1])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds, least, apart):
    # With Satterthwaite's degrees of freedom two seeds that lie far apart held it in 89 of 100.
    rng, held, rounds = np.random.default_rng(0), 0, 2000
    for _ in range(rounds):
        luck, hard = rng.normal(0, apart, (seeds, 1)), rng.normal(0, 0.3, (1, 60))
        found = parted(0.1 + luck + hard + rng.normal(0, 0.2, (seeds, 60)))
        held += abs(found.mean - 0.1) <= found.half
    assert least <= held / rounds <= 0.98


def test_items_of_a_group_count_once():
    table = np.random.default_rng(1).normal(size=(3, 10))
    alone, four_times = of(table), of(np.repeat(table, 4, axis=1), size=4)
    assert (four_times.n, four_times.clusters) == (40, 10)
    assert (four_times.gain, four_times.se_items) == pytest.approx((alone.gain, alone.se_items))


def test_a_score_of_some_items_is_told_of_those():
    """As each task of a suite has one: the others' items have no grade in it."""

    def mixed(grades):
        others = [Graded(Item(f"o{n}", "", "", ""), Completion([], "", "given", []), {"other": 1.0}) for n in range(5)]
        return [*others, *graded(grades)]

    seeds = {"0": [1, 0, 1, 1], "1": [1, 1, 1, 0], "2": [0, 1, 1, 1]}
    found = between({name: mixed(side) for name, side in seeds.items()}, mixed([0, 0, 0, 1]), "m")
    assert found == between({name: graded(side) for name, side in seeds.items()}, graded([0, 0, 0, 1]), "m")
    assert found.n == 4
    with pytest.raises(Refused, match="no item has a grade `neither`"):
        between({name: mixed(side) for name, side in seeds.items()}, mixed([0, 0, 0, 1]), "neither")
    with pytest.raises(Refused, match="`i0` of base has no grade `m`, and that of seed 0 has one"):
        between({"0": graded([1]), "1": graded([1])}, graded([1], metric="other"), "m")


def test_one_seed_or_other_items_are_refused():
    with pytest.raises(BadInput, match="one seed says nothing"):
        between({"0": graded([1, 0])}, graded([0, 0]), "m")
    with pytest.raises(Refused, match=r"seed 1 and base were not asked the same items: 1 are .* `i2`"):
        between({"0": graded([1, 0]), "1": graded([1, 0, 0])}, graded([0, 0]), "m")
    with pytest.raises(Refused, match="`i0` of seed 1 has no grade `m`"):
        between({"0": graded([1, 0]), "1": graded([1, 0], metric="other")}, graded([0, 0]), "m")
    with pytest.raises(Refused, match="one item, or one group"):
        of([[1.0], [0.0]])
