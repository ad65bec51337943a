"""What rows begin with in common is found at every depth, counted, and kept together by chance."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.data.prefixes import saved, segments, shuffled

reproducible = settings(derandomize=True, deadline=None, max_examples=100)
ROWS = st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=12)


def draw(count: int) -> list[int]:
    return random.Random(count).sample(range(count), count)


@reproducible
@given(ROWS, st.integers(1, 4))
def test_a_segment_is_common_to_its_rows_and_to_no_other(rows: list[list[int]], least: int) -> None:
    found = segments(rows, least)
    for place, one in enumerate(found):
        beginning = rows[one.rows[0]][: one.end]
        assert [row for row, ids in enumerate(rows) if ids[: one.end] == beginning] == sorted(one.rows)
        assert one.end - one.begin >= least
        assert len(one.rows) > 1
        assert one.begin == (0 if one.parent is None else found[one.parent].end)
        assert one.parent is None or one.parent < place


@reproducible
@given(ROWS)
def test_at_least_one_token_the_segments_are_the_whole_tree(rows: list[list[int]]) -> None:
    """Counted by hand: a set of all beginnings."""
    tree = {tuple(row[: length + 1]) for row in rows for length in range(len(row))}
    spared = sum((one.end - one.begin) * (len(one.rows) - 1) for one in segments(rows, 1))
    assert sum(map(len, rows)) - spared == len(tree)


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
