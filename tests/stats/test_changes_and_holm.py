"""Tests of changed answers, and of several scores at once, against published worked examples."""

from __future__ import annotations

import pytest

from tunewright.parts.gate import Score
from tunewright.stats import changes
from tunewright.stats.holm import adjusted


def test_fagerlands_airways_give_the_published_p_values():
    # Airway hyper-responsiveness of 21 children before and after stem cell transplantation, 1 and 7 of whom changed:
    # Fagerland, Lydersen and Laake, BMC Med. Res. Methodol. 13 (2013) 91, table 1 and section "Results": 0.070, 0.039.
    assert changes.exact(7, 1) == pytest.approx(0.0703125)
    assert changes.mid(7, 1) == pytest.approx(0.0390625)


def test_tangos_interval_of_the_same_children_is_the_published_one():
    # Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014) 2850-2875: -0.517 to -0.026.
    assert changes.interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


def test_agrestis_approval_of_the_prime_minister():
    # Agresti, Categorical Data Analysis, section 10.1: of 1,600, 150 turned away and 86 turned to; z² = 17.36 by
    # McNemar's score, and Wald's interval of the change is 0.02 to 0.06 against the later survey.
    low, high = changes.interval(86, 150, 1600)
    assert (low, high) == pytest.approx((-0.0587, -0.0213), abs=5e-4)
    assert changes.exact(86, 150) == pytest.approx(3.7e-5, rel=0.05)


@pytest.mark.parametrize("both", [0, 1, 5, 40])
def test_as_many_won_as_lost_is_no_evidence(both):
    assert [changes.exact(both, both), changes.mid(both, both)] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(("won", "lost"), [(0, 1), (3, 9), (12, 2), (30, 30), (200, 260)])
def test_mid_p_is_below_the_exact_one_and_the_same_from_either_side(won, lost):
    assert changes.mid(won, lost) <= changes.exact(won, lost) + 1e-12
    assert changes.mid(won, lost) == pytest.approx(changes.mid(lost, won))


@pytest.mark.parametrize(("won", "lost", "n"), [(0, 0, 1), (0, 0, 40), (5, 0, 5), (0, 5, 5), (3, 1, 4), (20, 20, 40)])
def test_an_interval_holds_what_was_found_and_mirrors(won, lost, n):
    low, high = changes.interval(won, lost, n)
    assert -1 <= low <= (won - lost) / n <= high <= 1
    assert high - low > 0.01
    assert changes.interval(lost, won, n) == pytest.approx((-high, -low), abs=1e-8)


@pytest.mark.parametrize(("won", "lost", "n"), [(-1, 0, 5), (0, -1, 5), (3, 3, 5), (0, 0, 0)])
def test_counts_that_cannot_be_are_refused(won, lost, n):
    with pytest.raises(ValueError, match="won and"):
        changes.interval(won, lost, n)


def of(p: float) -> Score:
    return Score(40, 0.4, 0.5, 0.1, (0.0, 0.2), p)


def test_holms_procedure_decides_as_the_textbook_example_does():
    # Wikipedia, "Holm-Bonferroni method", example: of 0.01, 0.04, 0.03 and 0.005 at 5 %, the fourth and the first are
    # rejected, and there it stops: 4 × 0.005, 3 × 0.01, 2 × 0.03, and never below the one before.
    ps = {"H1": 0.01, "H2": 0.04, "H3": 0.03, "H4": 0.005}
    found = {name: score.p_adjusted for name, score in adjusted({n: of(p) for n, p in ps.items()}).items()}
    assert found == pytest.approx({"H1": 0.03, "H2": 0.06, "H3": 0.06, "H4": 0.02})
    assert list(found) == list(ps)


def test_one_score_alone_needs_no_adjustment():
    assert adjusted({"a": of(0.03)})["a"].p_adjusted == pytest.approx(0.03)
    assert adjusted({}) == {}
