"""The figures that `data show` prints: shares, classes, lengths."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listed import numbered

from tunewright.data.rows import realise_all
from tunewright.data.statistics import balance, class_of, count_sources, lengths
from tunewright.parts.prompt_format import Example, Feedback, Preference
from tunewright.parts.trainer import FeedbackRow, PairRow, TokenRow


def row(count):
    return TokenRow("r", "r", [0] * count, [0] * count)


def test_shares_are_of_rows_and_of_tokens():
    found = realise_all([numbered(10, "a", limit=3, epochs=2), numbered(2, "b")], 0)
    a, b = count_sources(found, [10, 30])
    assert (a.name, a.read, a.kept, a.given, a.copies, a.set_aside) == ("a", 10, 3, 6, 3, 0)
    assert (a.share_of_rows, a.share_of_tokens, b.share_of_tokens) == (0.75, 0.25, 0.75)
    assert [(one.tokens, one.share_of_tokens) for one in count_sources(found)] == [(None, None)] * 2


def test_few_short_answers_are_classes_the_largest_first():
    found = balance(["b", "a", "b", "c", "b", "a"])
    assert [(one.answer, one.rows, one.share) for one in found] == [("b", 3, 0.5), ("a", 2, 2 / 6), ("c", 1, 1 / 6)]


@pytest.mark.parametrize(
    "answers",
    [[], ["a", "b", "c"], ["x" * 61] * 5, [str(n) for n in range(51)] * 3],
    ids=["none", "each its own", "texts", "51"],
)
def test_other_answers_are_no_classes(answers):
    assert balance(answers) is None


def test_fifty_answers_of_sixty_letters_are_still_classes():
    assert len(balance([f"{n:060}" for n in range(50)] * 2)) == 50


def test_the_class_of_a_feedback_is_whether_it_was_wanted():
    assert class_of(Feedback("p", "c", True)) == "wanted"
    assert class_of(Feedback("p", "c", False)) == "not wanted"
    assert class_of(Example("p", " billing\n")) == "billing"
    assert class_of(Preference("p", "good", "bad")) == "good"


def test_the_limit_is_held_against_the_longest_sequence_of_a_row():
    pair = PairRow("r", "r", [1] * 5, [1] * 2, [1] * 4)
    found = lengths([pair, row(10), row(11), FeedbackRow("r", "r", [1] * 5, [1] * 3, True)], 10)
    assert (found.over, found.share_over, found.longest) == (1, 1 / 4, 11)
    assert (pair.tokens, lengths([pair], 10).longest) == (16, 9)


def test_packed_rows_have_no_limit():
    found = lengths([row(100)], 10, packed=True)
    assert (found.over, found.share_over) == (None, None)


def test_percentiles_are_lengths_of_rows():
    found = lengths([row(n) for n in range(1, 101)], 1000)
    assert (found.p50, found.p95, found.longest) == (50, 95, 100)
    assert lengths([row(7)], 10).p95 == 7


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60))
def test_every_row_is_in_one_of_at_most_ten_bins(counts):
    bins = lengths([row(n) for n in counts], 10).bins
    assert len(bins) <= 10
    assert [one.rows for one in bins] == [sum(one.low <= n <= one.high for n in counts) for one in bins]
    assert sum(one.rows for one in bins) == len(counts)
    assert bins[0].rows and bins[-1].rows
    assert all(a.high + 1 == b.low for a, b in pairwise(bins))
    if max(counts) - min(counts) >= 100:
        assert len(bins) >= 8
