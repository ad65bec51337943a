"""Scores are what a textbook says they are, and a gate without evidence is shut."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item
from tunewright.parts.gate import Score
from tunewright_basics.heldout import Heldout, HeldoutOptions, macro_f1
from tunewright_basics.threshold import Threshold, ThresholdOptions


def graded(pairs):
    evaluator = Heldout(HeldoutOptions(metrics=["exact_match", "macro_f1"]))
    found = []
    for number, (reference, text) in enumerate(pairs):
        item, answer = Item(str(number), f"t:{number}", [], reference), Completion([], text, "terminator", [])
        found.append(Graded(item, answer, evaluator.grade(item, answer)))
    return evaluator, found


def test_exact_match_ignores_white_space_around_and_nothing_else():
    evaluator, found = graded([("a", " a\n"), ("a", "A"), ("a", "a."), ("b", "b")])
    assert evaluator.summaries()["exact_match"](found) == 0.5


def test_macro_f1_agrees_with_the_definition():
    # a: tp 1, fn 1, fp 0 → 2/3; b: tp 1, fp 1, fn 0 → 2/3; c: tp 0 → 0
    _, found = graded([("a", "a"), ("a", "b"), ("b", "b"), ("c", "nonsense")])
    assert macro_f1(found) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_macro_f1_agrees_with_the_counts_of_a_larger_table():
    truth, answers = "aaaabbbccc", "aaabbbacca"
    _, found = graded(list(zip(truth, answers, strict=True)))
    by_hand = [2 * 3 / (4 + 5), 2 * 2 / (3 + 3), 2 * 2 / (3 + 2)]
    assert macro_f1(found) == pytest.approx(sum(by_hand) / 3)


def test_only_the_metrics_asked_for_are_made():
    assert set(Heldout(HeldoutOptions()).summaries()) == {"exact_match"}


SCORE = Score(n=100, base=0.1, tuned=0.8, delta=0.7, ci95=(0.6, 0.8), p_value=0.001)


@pytest.mark.parametrize(
    ("bounds", "passed"),
    [({"at_least": 0.8}, True), ({"at_least": 0.81}, False), ({"at_most": 0.79}, False), ({"at_most": 0.8}, True)],
)
def test_a_threshold_compares_the_tuned_score(bounds, passed):
    assert Threshold(ThresholdOptions(metric="m", **bounds)).judge({"m": SCORE}).passed is passed


def test_missing_evidence_fails():
    verdict = Threshold(ThresholdOptions(metric="m", at_least=0)).judge({})
    assert not verdict.passed
    assert "no score" in verdict.why


def test_a_threshold_without_a_bound_is_refused():
    with pytest.raises(ValidationError, match="at_least"):
        ThresholdOptions(metric="m")
