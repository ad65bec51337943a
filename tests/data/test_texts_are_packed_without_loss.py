"""Packing keeps every token in its order and says of each row which texts it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.data.pack import pack
from tunewright.errors import BadInput
from tunewright.parts.trainer import TokenRow

TEXTS = st.lists(st.lists(st.integers(1, 999), min_size=1, max_size=30), max_size=12)


def rows_of(texts):
    return [TokenRow(f"t{n}", f"train.csv:{n}", ids, ids) for n, ids in enumerate(texts, 1)]


@given(TEXTS, st.integers(2, 40))
def test_every_token_is_kept_once_and_in_order(texts, length):
    whole = [token for text in texts for token in text]
    packed = pack(rows_of(texts), length)
    kept = [token for row in packed for token in row.ids]
    alone = len(whole) % length == 1  # a last token that nothing stands before
    assert kept == (whole[:-1] if alone else whole)
    assert [row.labels for row in packed] == [row.ids for row in packed]


@given(TEXTS, st.integers(2, 40))
def test_all_rows_are_full_but_the_last(texts, length):
    sizes = [len(row.ids) for row in pack(rows_of(texts), length)]
    assert all(size == length for size in sizes[:-1])
    assert all(2 <= size <= length for size in sizes[-1:])


@given(TEXTS, st.integers(2, 40))
def test_ids_are_told_apart_and_name_the_texts_that_a_row_holds(texts, length):
    packed = pack(rows_of(texts), length)
    assert len({row.row_id for row in packed}) == len(packed)
    owners = [f"t{n}" for n, text in enumerate(texts, 1) for _ in text]
    for place, row in enumerate(packed):
        inside = list(dict.fromkeys(owners[place * length : place * length + len(row.ids)]))
        named = inside[0] if len(inside) == 1 else f"{inside[0]}..{inside[-1]}"
        assert row.row_id.partition("~")[0] == named
        assert row.origin == named.replace("t", "train.csv:")


def test_a_long_text_is_cut_into_several_rows_of_its_own():
    packed = pack(rows_of([list(range(1, 10)), [20, 21]]), 4)
    assert [row.ids for row in packed] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 20, 21]]
    assert [row.row_id for row in packed] == ["t1", "t1~2", "t1..t2"]
    assert packed[2].origin == "train.csv:1..train.csv:2"


def test_a_text_that_has_the_name_of_a_part_keeps_ids_apart():
    rows = [TokenRow("a~2", "o:1", [1, 2], [1, 2]), TokenRow("a", "o:2", [1, 2, 3, 4], [1, 2, 3, 4])]
    assert [row.row_id for row in pack(rows, 2)] == ["a~2", "a", "a~3"]


def test_labels_go_with_their_tokens():
    (row,) = pack([TokenRow("a", "o:1", [1, 2], [-100, 2]), TokenRow("b", "o:2", [3], [3])], 3)
    assert row.labels == [-100, 2, 3]


@pytest.mark.parametrize("length", [1, 0, -3])
def test_a_length_that_leaves_nothing_to_learn_is_refused(length):
    with pytest.raises(BadInput, match="raise `max_length`"):
        pack(rows_of([[1, 2, 3]]), length)
