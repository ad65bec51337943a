"""What a set of questions can show, before anything is trained: against counting, and a published power."""

from __future__ import annotations

import pytest

from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item, mean_of
from tunewright.stats import changes
from tunewright.stats import visible as module
from tunewright.stats.paired import compare
from tunewright.stats.visible import FEWEST_WINS, power, visible


def test_six_won_and_none_lost_is_the_least_that_is_no_chance():
    assert changes.exact(FEWEST_WINS, 0) <= 0.05 < changes.exact(FEWEST_WINS - 1, 0)
    # No outcome with a smaller difference is: whatever is lost must be won besides.
    least = min(w - lost for w in range(60) for lost in range(60) if w > lost and changes.exact(w, lost) <= 0.05)
    assert least == FEWEST_WINS


@pytest.mark.parametrize(("items", "floor"), [(40, 0.15), (48, 0.125), (140, 6 / 140), (6, 1.0)])
def test_the_floor_is_six_items(items, floor):
    assert visible(items, items).floor == pytest.approx(floor)


def test_the_floor_is_of_right_or_wrong_answers_alone():
    answer = Completion([], "", "given", [])
    items = [Item(f"i{place}", "", "", "x") for place in range(40)]
    base = [Graded(item, answer, {"f1": 0.5}) for item in items]
    tuned = [Graded(item, answer, {"f1": 0.58 if place % 3 else 0.5}) for place, item in enumerate(items)]
    found = compare(base, tuned, "f1", mean_of("f1"), 0)
    assert found.delta < visible(40, 40).floor
    assert found.p_value < 0.001


def test_five_items_show_nothing():
    found = visible(5, 5)
    assert (found.floor, found.likely) == (None, None)


def test_items_of_a_group_count_once():
    assert visible(40, 20).floor == visible(20, 20).floor
    assert visible(40, 20).likely == visible(20, 20).likely


def test_power_is_what_counting_every_outcome_gives():
    from scipy.stats import multinomial

    n, win, lose = 14, 0.35, 0.05
    every = ((w, lost) for w in range(n + 1) for lost in range(n + 1 - w))
    chances = multinomial(n, [win, lose, 1 - win - lose])
    by_hand = sum(
        chances.pmf([w, lost, n - w - lost]) for w, lost in every if w > lost and changes.exact(w, lost) <= 0.05
    )
    assert power(n, win - lose, win + lose) == pytest.approx(by_hand)


def test_power_is_what_gpower_gives_in_its_manual(monkeypatch):
    # G*Power 3.1 manual, "Exact: Proportion - inequality, two dependent groups (McNemar)", after O'Brien (2002): of 50
    # pairs 40 % discordant, odds ratio 0.08 / 0.32, one side at 5 %: power 0.8393, and an actual level of 0.0326.
    monkeypatch.setattr(module, "CHANCE", 0.1)  # 5 % on each side
    assert power(50, 0.32 - 0.08, 0.4) == pytest.approx(0.8393, abs=1e-4)
    assert power(50, 0.0, 0.4) == pytest.approx(0.0326, abs=1e-4)


def test_power_without_an_effect_is_less_than_half_of_five_percent():
    assert all(0 < power(n, 0.0) <= 0.025 for n in (40, 100, 400))
    assert power(40, 0.0, 0.0) == 0.0


def test_the_likely_gain_has_the_power_that_it_says_and_no_smaller_one_has():
    for n in (20, 40, 140, 1000):
        likely = visible(n, n).likely
        assert power(n, likely) >= 0.8 > power(n, likely - 0.001)
    assert visible(4000, 4000).likely == 0.021
