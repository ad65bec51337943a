"""Macro F1, perplexity and ECE are redrawn by their sums: the same figures as grading every redraw anew, in seconds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.grading.calibration import ece
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item
from tunewright.stats import paired
from tunewright.stats.holm import adjusted
from tunewright.stats.paired import compare
from tunewright_basics.choice import calibration_error
from tunewright_basics.heldout import macro_f1
from tunewright_basics.perplexity import mean_nll, perplexity

SUMS = {"macro_f1": macro_f1, "perplexity": perplexity, "nll": mean_nll, "ece": calibration_error}


def rows(rng, labels, right, groups=None):
    """Answers to items of these labels, of which some are another label or none; groups by item, where there are."""
    found = []
    for place, label in enumerate(labels):
        said = label if rng.random() < right else str(rng.choice(["a", "b", "c", "none"]))
        grades = {
            "macro_f1": float(said == label), "accuracy": float(said == label), "confidence": float(rng.random()),
            "nll": float(rng.exponential(20)), "tokens": float(rng.integers(1, 30)),
        }  # fmt: skip
        item = Item(f"i{place}", "", "", label, groups[place] if groups else None)
        found.append(Graded(item, Completion([1], said, "given", [1]), grades))
    return found


def sides(seed, n, groups=None):
    rng = np.random.default_rng(seed)
    labels = rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]).tolist()
    return rows(rng, labels, 0.4, groups), rows(rng, labels, 0.7, groups)


def anew(summary):
    """The same as a function that nothing is known of."""
    return lambda graded: summary(graded)


@pytest.mark.parametrize("metric", SUMS)
@pytest.mark.parametrize("groups", [None, [f"g{min(place // 3, 5)}" for place in range(40)]])  # of 3, and one of 25
def test_the_figures_are_those_of_grading_every_redraw(metric, groups, monkeypatch):
    monkeypatch.setattr(paired, "RESAMPLES", 400)
    base, tuned = sides(1, 40, groups)
    fast, slow = (compare(base, tuned, metric, one, 0) for one in (SUMS[metric], anew(SUMS[metric])))
    for field in ("n", "clusters", "base", "tuned", "delta", "ci95", "p_value", "base_ci95", "tuned_ci95"):
        assert getattr(fast, field) == pytest.approx(getattr(slow, field), rel=1e-9, abs=1e-12), field


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_macro_f1_and_ece_are_what_their_definitions_say(seed, n):
    graded, _ = sides(seed, n)
    labels = {one.item.reference for one in graded}
    f1s = []
    for label in labels:
        wanted, said = ([pick(one) == label for one in graded] for pick in (_reference, _answer))
        f1s.append(2 * sum(map(min, wanted, said)) / (sum(wanted) + sum(said)))
    assert macro_f1(graded) == pytest.approx(sum(f1s) / len(labels))
    sure, right = ([one.grades[name] for one in graded] for name in ("confidence", "accuracy"))
    assert calibration_error(graded) == pytest.approx(ece(sure, right))


def _reference(one):
    return one.item.reference


def _answer(one):
    return one.answer.text


def test_a_score_of_no_items_is_undefined():
    for summary in SUMS.values():
        with pytest.raises(ZeroDivisionError):
            summary([])


def test_a_large_gain_on_many_rows_stays_significant_beside_thirty_other_scores():
    rng = np.random.default_rng(0)
    labels = [f"l{place % 77}" for place in range(3080)]
    base, tuned = rows(rng, labels, 0.02), rows(rng, labels, 0.9)
    found = compare(base, tuned, "macro_f1", macro_f1, 0)
    assert found.delta > 0.8
    family = adjusted({str(n): found for n in range(30)})
    assert family["0"].p_adjusted <= 0.05
