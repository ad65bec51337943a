"""A row is put together again from its path and its own tokens, whatever the rows; and nothing shared is missed."""

import random

import pytest

from tunewright.data.prefixes import Segment, ordered, segments


def drawn(seed):
    """Rows that grow out of each other, some of them twice, some of them whole beginnings of others."""
    rng, rows = random.Random(seed), [[]]
    for _ in range(40):
        stem = rng.choice(rows)
        rows.append(stem[: rng.randint(0, len(stem))] + [rng.choice((0, 1, 255, 256, 65_537)) for _ in range(9)])
    rows += rng.sample(rows, 5)
    rng.shuffle(rows)
    return rows


@pytest.mark.parametrize("least", [1, 2, 7])
@pytest.mark.parametrize("seed", range(8))
def test_a_segment_is_what_its_rows_share_and_begins_where_its_parent_ends(seed, least):
    rows = drawn(seed)
    found = segments(rows, least)
    assert len(found) > 2
    for place, (begin, end, some, parent) in enumerate(found):
        assert end - begin >= least
        assert len(some) > 1
        assert len({tuple(rows[row][:end]) for row in some}) == 1
        assert min(len(rows[row]) for row in some) >= end
        above = found[parent] if parent is not None else Segment(0, 0, list(range(len(rows))), None)
        assert above.end == begin
        assert set(some) <= set(above.rows)
        assert parent is None or parent < place
    for parent in {segment.parent for segment in found}:  # brothers have no row in common
        beneath = [row for segment in found if segment.parent == parent for row in segment.rows]
        assert len(beneath) == len(set(beneath))


@pytest.mark.parametrize("seed", range(8))
def test_with_segments_of_any_length_each_shared_token_is_counted_once(seed):
    rows = drawn(seed)
    found = segments(rows, 1)
    saved = sum((len(one.rows) - 1) * (one.end - one.begin) for one in found)
    beginnings = {tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)}
    assert sum(map(len, rows)) - saved == len(beginnings)


def test_the_order_is_that_of_the_tokens_and_depth_first():
    rows = [[256, 1], [1, 256], [1, 2], [256, 1, 9, 9], [1, 2, 5], [256, 1, 9, 9, 4]]
    assert ordered(rows) == [2, 4, 1, 0, 3, 5]
    assert segments(rows, 1) == [
        Segment(0, 1, [2, 4, 1], None),
        Segment(1, 2, [2, 4], 0),
        Segment(0, 2, [0, 3, 5], None),
        Segment(2, 4, [3, 5], 2),
    ]


def test_short_beginnings_stay_with_what_is_below():
    rows = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [1, 7]]
    assert segments(rows, 2) == [Segment(0, 4, [0, 1], None)]
    assert segments(rows, 5) == []


@pytest.mark.parametrize("rows", [[], [[]], [[1]], [[], []], [[1], [2]]])
def test_where_nothing_is_shared_there_is_no_segment(rows):
    assert segments(rows, 1) == []
