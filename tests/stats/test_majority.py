"""The majority's answer beside a model's: by hand, by scipy, and what the sentence says when it is not beaten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.errors import Refused
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item
from tunewright.stats.majority import majority
from tunewright.stats.proportion import wilson


def answered(pairs, groups=None, metric="exact_match"):
    """(reference, answer) as graded rows."""
    return [
        Graded(
            Item(f"i{place}", f"t.csv:{place}", [], reference, groups[place] if groups else None),
            Completion([1], answer, "terminator", [1]),
            {metric: float(reference.strip() == answer)},
        )
        for place, (reference, answer) in enumerate(pairs)
    ]


def found(pairs, learnt=("no", "yes", "no"), groups=None):
    return majority(learnt, answered(pairs, groups), "exact_match", seed=0)


def mixture(right_yes, wrong_yes, right_no, wrong_no):
    """Rows whose answer is yes or no, of which a model gets so many right and wrong."""
    yes = [("yes", "yes")] * right_yes + [("yes", "no")] * wrong_yes
    return yes + [("no", "no")] * right_no + [("no", "yes")] * wrong_no


def test_the_majority_of_the_test_rows_is_what_must_be_beaten():
    one = found(mixture(50, 5, 40, 5))
    assert (one.label, one.classes, one.score.n) == ("yes", 2, 100)
    assert one.score.base == pytest.approx(0.55)
    assert one.ci95 == wilson(55, 100)
    assert (one.learnt, one.learnt_share) == ("no", pytest.approx(0.45))
    assert one.score.tuned == pytest.approx(0.9)
    assert one.beaten
    assert str(one).startswith("the majority class `yes` gives 55.0 % (`no`, the most learnt, 45.0 %), tuned 90.0 %:")


def test_the_p_value_is_mcnemars_over_the_rows_where_they_differ():
    """Constant `yes` and the model differ on the yes rows that it misses and on the no rows that it gets right."""
    from statsmodels.stats.contingency_tables import mcnemar

    one = found(mixture(50, 5, 14, 31))
    assert one.score.p_value == pytest.approx(float(mcnemar([[50, 5], [14, 31]], exact=True).pvalue))
    assert one.score.p_value == pytest.approx(0.0636, abs=5e-5)  # 2 P(X <= 5), X of 19 tosses: 33,328 / 2^19


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (mixture(45, 10, 5, 40), "uninformative: the majority class `yes` gives 55.0 %, tuned 50.0 % (100 rows, p ="),
        (mixture(55, 0, 0, 45), "tuned 55.0 % (100 rows, p = 1)"),  # it has learnt to say yes
        (mixture(50, 5, 14, 31), "tuned 64.0 %, which chance explains (100 rows, p = 0.064)"),
        (mixture(10, 45, 5, 40), "tuned 15.0 % (100 rows, p = "),  # far off, and on the wrong side
    ],
)
def test_a_set_on_which_it_is_not_beaten_is_uninformative(rows, says):
    one = found(rows, learnt=["yes"])
    assert not one.beaten
    assert str(one).startswith("uninformative: ")
    assert says in str(one)


def test_rows_of_one_group_are_one_draw():
    """Ten rows on one document that the model gets right are no ten wins."""
    rows = mixture(10, 0, 9, 0)
    alone = found(rows)
    together = found(rows, groups=["a"] * 10 + ["b"] * 9)
    assert alone.beaten
    assert together.score.delta == alone.score.delta
    assert not together.beaten


def test_white_space_and_ties_change_nothing():
    rows = [("b \n", "b"), ("a", "b"), (" b", "b"), ("a", "a")]
    assert found(rows).label == found(rows[::-1]).label == "a"
    assert found(rows, learnt=["b", " a", "a ", "b"]).learnt == "a"
    assert found(rows, learnt=[]).learnt is None


def test_a_long_answer_is_shortened_to_a_line():
    long = "a clause\nof many words that nobody wants to read in one sentence"
    assert "`a clause of many words that nobody wants…`" in str(found([(long, "x")] * 2, learnt=[long]))


def test_a_score_between_right_and_wrong_and_no_rows_are_refused():
    half = [Graded(one.item, one.answer, {"token_f1": 0.5}) for one in answered([("yes", "no")])]
    with pytest.raises(Refused, match="token_f1"):
        majority([], half, "token_f1", seed=0)
    for rows in ([], half):
        with pytest.raises(ValueError, match="no row is graded by `exact_match`"):
            majority(["yes"], rows, "exact_match", seed=0)


def test_items_that_the_metric_does_not_concern_are_left_out():
    rows = answered([("yes", "yes"), ("no", "no"), ("yes", "no")])
    other = Graded(Item("o", "t.csv:9", [], "no"), rows[0].answer, {"token_f1": 0.5})
    assert majority([], [other, *rows], "exact_match", seed=0).score.n == 3


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30))
def test_no_single_answer_is_right_more_often(pairs):
    one = found(pairs)
    assert one.score.base == pytest.approx(max(sum(ref == label for ref, _ in pairs) for label in "abc") / len(pairs))
    assert one.learnt_share <= one.score.base
    assert found([(ref, one.label) for ref, _ in pairs]).score.delta == 0


def test_a_tie_between_choices_counts_in_part():
    rows = answered([("yes", "yes"), ("no", "no"), ("yes", "no")], metric="accuracy")
    tied = replace(rows[2], item=replace(rows[2].item, choices=("yes", "no")), grades={"accuracy": 0.5})
    one = majority([], [*rows[:2], tied], "accuracy", seed=0)
    assert (one.label, one.score.base, one.score.tuned) == ("yes", pytest.approx(2 / 3), pytest.approx(2.5 / 3))
