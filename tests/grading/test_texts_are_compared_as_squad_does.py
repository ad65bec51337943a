"""Texts are graded as SQuAD's authors grade them, and choices strictly and fairly."""

from __future__ import annotations

import pytest

from tunewright.grading.text import chosen, contains, exact_match, normalise, token_f1


def test_what_is_normalised_away_is_what_squad_takes_away():
    assert normalise("The  Cat's, an\nhat!") == "cats hat"


def test_exact_match_takes_any_reference():
    assert exact_match("The Eiffel Tower.", ["eiffel tower", "tower"]) == 1
    assert exact_match("Eiffel Towers", ["eiffel tower"]) == 0


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("about 3 minutes", ["3 minutes"], 0.8),  # 2 of 3 words said, 2 of 2 wanted
        ("about 3 minutes", ["ten", "about three minutes", "3 minutes"], 0.8),  # the best of them
        ("new new york", ["new york new"], 1.0),  # no order
        ("york", ["new york new"], 0.5),  # 1 of 1 and 1 of 3
        ("new new", ["new"], 2 / 3),  # said twice, wanted once
        ("", ["new"], 0.0),
        ("the", ["a"], 1.0),  # both empty
        ("x", [], 0.0),
    ],
)
def test_token_f1_by_hand(answer, references, expected):
    assert token_f1(answer, references) == pytest.approx(expected)


def test_a_point_within_a_number_counts_where_numbers_do():
    assert exact_match("25 mg", ["2.5 mg"]) == 1  # as SQuAD has it
    assert exact_match("25 mg", ["2.5 mg"], numbers=True) == 0
    assert exact_match("2.5 mg.", ["2.5 mg"], numbers=True) == 1
    assert normalise("(−) well-known: -5, 88-92, B-7.", numbers=True) == "− wellknown -5 88-92 b7"


def test_contained_words_are_whole():
    assert contains("It is 15 minutes, at least.", ["15 minutes"]) == 1
    assert contains("It is 115 minutes", ["15 minutes"]) == 0
    assert contains("anything", ["..."]) == 0


LABELS = ["positive", "negative", "not_stated", "not"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("positive", "positive"),
        (" **Positive.**\n", "positive"),
        ("Not stated", "not_stated"),
        ("not-stated, as nothing is said", "not_stated"),
        ("negative\nThe margin fell.", "negative"),
        ("positive: it grew, which is not bad", "positive"),
        ("positive - it grew", "positive"),
        ("**positive** -- it grew", "positive"),
        ("not - stated", "not_stated"),
        ("- negative", "negative"),
        ("positive - negative", None),
        ("positive - or negative", None),
        ("it - positive", None),
        ("positive -5", None),
        ("positive news", None),
        ("positive, negative", None),
        ("positive or negative", None),
        ("It is positive", None),
        ("positively", None),
        ("", None),
    ],
)
def test_a_choice_is_the_answer_or_leads_it(answer, expected):
    assert chosen(answer, LABELS) == expected


@pytest.mark.parametrize(
    ("answer", "expected"), [("B", "B"), ("b) the router", "B"), ("A new card", None), ("(C)", "C"), ("A, B", None)]
)
def test_letters_need_a_mark_behind_them(answer, expected):
    assert chosen(answer, "ABCD") == expected
