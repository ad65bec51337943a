"""Rows that begin alike are kept together by chance, and what that saves is counted."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.data.prefixes import heaviest, saved, segments, shuffled

reproducible = settings(derandomize=True, deadline=None, max_examples=100)
ROWS = st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=12)


def draw(count: int) -> list[int]:
    return random.Random(count).sample(range(count), count)


@reproducible
@given(ROWS, st.integers(1, 4))
def test_an_order_by_chance_has_every_row_once_and_keeps_a_segment_together(rows: list[list[int]], least: int) -> None:
    order = shuffled(rows, least, draw)
    assert sorted(order) == list(range(len(rows)))
    for one in segments(rows, least):
        places = sorted(map(order.index, one.rows))
        assert places == list(range(places[0], places[0] + len(places)))


def test_what_is_saved_is_a_ratio_of_tokens() -> None:
    """64 rows of 30 shared tokens and two of their own: in batches of 8, 256 tokens against 30 + 16."""
    rows = [[[*range(100, 130), number, number]] for number in range(64)]
    found = saved(rows, seed=0)
    assert found.shuffled == {8: 256 / 46, 32: 1024 / 94}
    assert found.by_prefix == found.shuffled


def test_rows_that_begin_alike_save_more_together() -> None:
    """Eight documents of 30 tokens, eight rows on each: together a batch has one of them."""
    rows = [[[*[100 + number % 8] * 30, number]] for number in range(64)]
    found = saved(rows, seed=0)
    assert found.by_prefix[8] == 8 * 31 / 38
    assert found.shuffled[8] < 2


def test_a_pair_shares_its_prompt() -> None:
    found = saved([[[*range(40), 1], [*range(40), 2]]], seed=0)
    assert found.shuffled[8] == 82 / 42


def test_nothing_in_common_saves_nothing() -> None:
    assert saved([[[number] * 9] for number in range(9)], seed=0).shuffled == {8: 1, 32: 1}
    assert saved([], seed=0).shuffled == {8: 1, 32: 1}
    assert saved([], seed=0).most == {}


LEAST = 3
SEQUENCES = st.lists(st.integers(0, 1), min_size=1, max_size=12)
PAIRS = st.lists(st.lists(SEQUENCES, min_size=1, max_size=2), min_size=1, max_size=6)


@reproducible
@given(PAIRS)
def test_no_batch_is_heavier_than_the_heaviest(rows: list[list[list[int]]]) -> None:
    """All batches of up to six rows, tried; and as many tokens as the rows have at all are no bound worth its name."""
    found = heaviest(rows, LEAST)
    for size, most in found.items():
        for batch in itertools.combinations(rows, min(size, len(rows))):
            sequences = [sequence for row in batch for sequence in row]
            left = sum(map(len, sequences)) - sum(
                (one.end - one.begin) * (len(one.rows) - 1) for one in segments(sequences, LEAST)
            )
            assert left <= most


def test_the_heaviest_batch_has_what_is_shared_once_and_the_longest_rows_whole() -> None:
    """60 rows of 100 shared tokens and ten of their own, four of 100 and two hundred: a mean tells nothing of these."""
    rows = [[[*range(100), *[1000 + number] * (200 if number < 4 else 10)]] for number in range(64)]
    found = heaviest(rows)
    assert found[1] == 300
    assert found[4] == 300 + 3 * (200 + 8)
    assert found[8] == found[4] + 4 * (10 + 8)
    assert found[64] == found[4] + 60 * (10 + 8)
