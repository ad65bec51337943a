"""A split takes the share that was asked for and never parts rows that belong together."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from listed import rows_of, same_in

from tunewright.data.same import Sameness
from tunewright.data.splits import part, take_out
from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.spec.model import Split

reproducible = settings(derandomize=True, deadline=None, max_examples=200)
fractions = st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.8, 0.95])
seeds = st.integers(0, 9)


EVERY = same_in("v", "text", "at", "c", "customer", "day", "x", "y")
TEXT = same_in("text")


def split(fraction, **way):
    return Split(kind="split", fraction=fraction, **way)


def ids(rows):
    return [row.id for row in rows]


def days(*values):
    return rows_of([{"text": str(n), "day": value} for n, value in enumerate(values)])


@reproducible
@given(st.lists(st.integers(0, 30), min_size=2, max_size=40), fractions, seeds)
def test_equal_rows_stay_on_one_side_and_none_is_lost(values, fraction, seed):
    assume(len(set(values)) > 1)
    rows = rows_of([{"v": value} for value in values])
    kept, taken, dropped = take_out(rows, split(fraction), seed, EVERY)
    assert kept and taken and not dropped
    assert sorted([*kept, *taken], key=rows.index) == rows
    assert kept == [row for row in rows if row in kept]
    assert taken == [row for row in rows if row in taken]
    assert not EVERY.repeats(taken, EVERY.known(kept))


@reproducible
@given(st.integers(2, 80), fractions, seeds)
def test_of_rows_that_are_all_different_the_count_is_the_closest(count, fraction, seed):
    found = take_out(rows_of([{"v": n} for n in range(count)]), split(fraction), seed, EVERY)
    best = min(range(1, count), key=lambda taken: abs(taken - fraction * count))
    assert abs(len(found.taken) - fraction * count) <= abs(best - fraction * count) + 1e-9


@reproducible
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 20)), min_size=2, max_size=30), fractions, seeds)
def test_a_group_stays_on_one_side_and_what_it_shares_with_kept_rows_is_dropped(values, fraction, seed):
    assume(len({customer for customer, _ in values}) > 1)
    rows = rows_of([{"customer": customer, "v": v} for customer, v in values])
    try:
        kept, taken, dropped = take_out(rows, split(fraction, group="customer"), seed, EVERY)
    except BadInput as error:
        assert "equals a kept one" in error.message
        return
    assert sorted([*kept, *taken, *dropped], key=rows.index) == rows
    assert not {row.fields["customer"] for row in kept} & {row.fields["customer"] for row in [*taken, *dropped]}
    known = {row.fields["v"] for row in kept}
    assert not known & {row.fields["v"] for row in taken}
    assert {row.fields["v"] for row in dropped} <= known


def test_groups_that_share_a_row_are_parted_and_the_row_is_dropped():
    rows = rows_of([{"c": c, "v": v} for c in range(10) for v in ("hello", f"only {c}")])
    for seed in range(4):
        kept, taken, dropped = take_out(rows, split(0.3, group="c"), seed, EVERY)
        assert len(kept) == 14
        assert {row.fields["v"] for row in dropped} == {"hello"}
        assert [len(taken), len(dropped)] == [3, 3]


# a running number, a time and a customer that no format reads
TWICE = [{"id": n, "at": n, "c": f"c{n}", "text": f"text {n % 20}"} for n in range(60)]


@pytest.mark.parametrize("way", [{}, {"group": "c"}, {"time": "at"}])
@pytest.mark.parametrize("seed", range(4))
def test_equal_texts_under_different_ids_never_stand_on_two_sides(way, seed):
    sides = part(rows_of(TWICE[:25]), split(0.2, **way), split(0.3, **way), seed, TEXT)
    found = [{row.fields["text"] for row in side.rows} for side in sides]
    assert all(found)
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]
    assert sum(len(side.rows) + len(side.dropped) for side in sides) == 25


def test_by_fraction_all_rows_of_a_text_are_taken_whatever_their_ids():
    kept, taken, dropped = take_out(rows_of(TWICE), split(0.3), 0, TEXT)
    assert (len(kept), len(taken), len(dropped)) == (42, 18, 0)
    assert len({row.fields["text"] for row in taken}) == 6


@pytest.mark.parametrize("way", [{"group": "at"}, {"time": "at"}])
def test_a_column_that_is_read_and_split_by_makes_no_row_another(way):
    rows = rows_of([{"text": "same", "at": n} for n in range(4)] + [{"text": "other", "at": 9}])
    read = same_in("text", "at")
    for seed in range(8):
        try:
            kept, taken, _ = take_out(rows, split(0.4, **way), seed, read)
        except BadInput as error:
            assert "equals a kept one" in error.message
            continue
        assert not {row.fields["text"] for row in kept} & {row.fields["text"] for row in taken}


def test_a_customer_is_one_whether_a_csv_or_a_json_names_it():
    rows = rows_of([{"c": "7", "v": 1}, {"c": 7, "v": 2}, {"c": "8", "v": 3}])
    for seed in range(8):
        kept, taken, _ = take_out(rows, split(0.3, group="c"), seed, EVERY)
        assert {"listed:1", "listed:2"} in ({*ids(kept)}, {*ids(taken)})


@reproducible
@given(st.lists(st.integers(0, 15), min_size=2, max_size=40), fractions)
def test_by_time_everything_taken_is_later_than_everything_kept(values, fraction):
    assume(len(set(values)) > 1)
    rows = rows_of([{"text": str(place), "at": value} for place, value in enumerate(values)])
    kept, taken, dropped = take_out(rows, split(fraction, time="at"), 0, EVERY)
    assert not dropped and len(kept) + len(taken) == len(rows)
    assert max(row.fields["at"] for row in kept) < min(row.fields["at"] for row in taken)
    cuts = [sum(value >= since for value in values) for since in set(values)]
    best = min(abs(cut - fraction * len(values)) for cut in cuts if cut < len(values))
    assert abs(len(taken) - fraction * len(values)) <= best + 1e-9


@reproducible
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=2, max_size=30), fractions, seeds)
def test_a_later_row_that_equals_an_earlier_one_is_dropped_and_counted(values, fraction, seed):
    rows = rows_of([{"text": str(text), "at": at} for text, at in values])
    try:
        kept, taken, dropped = take_out(rows, split(fraction, time="at"), seed, EVERY)
    except BadInput as error:
        assert "equals a kept one" in error.message or "none is later" in error.message
        return
    known = {row.fields["text"] for row in kept}
    assert not known & {row.fields["text"] for row in taken}
    assert {row.fields["text"] for row in dropped} <= known
    assert len(kept) + len(taken) + len(dropped) == len(rows)


def test_the_seed_draws_the_rows_and_time_does_not_ask_it():
    rows = rows_of([{"v": n, "at": n} for n in range(40)])
    assert (
        take_out(rows, split(0.3), 1, EVERY)
        == take_out(rows, split(0.3), 1, EVERY)
        != take_out(rows, split(0.3), 2, EVERY)
    )
    assert take_out(rows, split(0.3, time="at"), 1, EVERY) == take_out(rows, split(0.3, time="at"), 2, EVERY)


def test_validation_is_a_share_of_what_the_test_rows_leave():
    parts = part(rows_of([{"v": n} for n in range(100)]), split(0.25), split(0.2), 0, EVERY)
    assert [len(side.rows) for side in parts] == [60, 20, 20]
    assert len({row.id for side in parts for row in side.rows}) == 100


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("2025-12-31", "2026-01-01"),
        ("2026-01-01 09:59", "2026-01-01T10:00:00.5"),
        ("2026-01-01T12:00:00+02:00", "2026-01-01T11:00:00Z"),  # 10:00 and 11:00
        ("9", "10"),
        ("1e3", "1000.5"),
        (9, 10.5),
        (-1, "0"),
    ],
)
def test_times_are_ordered_as_what_they_are_and_not_as_text(early, late):
    kept, taken, _ = take_out(days(late, early), split(0.5, time="day"), 0, EVERY)
    assert (ids(kept), ids(taken)) == (["listed:2"], ["listed:1"])


def test_one_moment_in_two_zones_is_not_parted():
    rows = days("2026-01-01T12:00:00+02:00", "2026-01-01T10:00:00Z", "2026-01-01T09:00:00Z")
    assert ids(take_out(rows, split(0.3, time="day"), 0, EVERY).taken) == ["listed:1", "listed:2"]


@pytest.mark.parametrize(
    "value",
    ["yesterday", "01/02/2026", "2026-02-30", "2026-1-5", "10:30", " 2026-01-05", "2026-01-05 10:00 UTC", "inf", True,
     [2026], "2026-01-05x10:00", "²", float("inf"), 10**400, "2026-W01"],
)  # fmt: skip
def test_what_is_no_time_is_named_with_its_row_and_value(value):
    with pytest.raises(BadInput, match=r"listed:2: `day` is .*: no date, time or number") as caught:
        take_out(days("2026-01-01", value), split(0.5, time="day"), 0, EVERY)
    assert str(value)[:9] in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2026-01-01T10:00:00", "2026-01-01T10:00:00Z"),
        ("2026-01-01", "2026-01-01T10:00:00"),
        ("2026-01-01", "20260102"),
    ],
)
def test_times_of_two_kinds_are_refused_with_a_row_of_each(one, other):
    with pytest.raises(BadInput, match=r"listed:1 holds .*; ?|listed:1 holds .*listed:3 holds"):
        take_out(days(one, one, other), split(0.5, time="day"), 0, EVERY)


@pytest.mark.parametrize("way", ["group", "time"])
@pytest.mark.parametrize(
    ("fields", "said"),
    [({"v": 2}, "has no column `c`"), ({"v": 2, "c": ""}, "has no value in"), ({"v": 2, "c": None}, "has no value in")],
)
def test_a_row_without_the_column_is_named(way, fields, said):
    rows = rows_of([{"v": 1, "c": "1"}, fields])
    with pytest.raises(BadInput, match=f"listed:2: the row {said}"):
        take_out(rows, split(0.5, **{way: "c"}), 0, EVERY)


@pytest.mark.parametrize(
    ("rows", "way", "said"),
    [
        ([], {}, "there are no rows"),
        ([{"v": 1}], {}, "there is one row"),
        ([{"v": 1}] * 3, {}, "all 3 rows are equal in all that is read, so"),
        ([{"v": 1, "c": 1}, {"v": 2, "c": 1}], {"group": "c"}, "all 2 rows have one `c`"),
        ([{"v": 1, "c": 1}, {"v": 2, "c": 1}], {"time": "c"}, "all 2 rows have one `c`"),
        ([], {"time": "c"}, "there are no rows"),
        ([{"v": 1, "c": 1}, {"v": 1, "c": 2}], {"time": "c"}, "equals a kept one in all else"),
    ],
)
def test_a_side_that_would_be_empty_is_refused_and_the_split_named(rows, way, said):
    with pytest.raises(BadInput, match=said) as caught:
        part(rows_of(rows), split(0.5, **way), None, 0, EVERY)
    assert caught.value.message.startswith("the validation split: ")
    assert caught.value.fix


def test_equality_is_of_the_columns_read_and_not_of_their_order_place_or_company():
    xy = same_in("x", "y")
    a, b = rows_of([{"x": 1, "y": [1, {"z": "é"}], "id": 1}, {"y": [1, {"z": "é"}], "x": 1, "id": 2}])
    assert xy.of(a) == xy.of(b) != xy.of(rows_of([{"x": 1, "y": [1, {"z": "e"}]}])[0])
    assert xy.of(a) != xy.of(rows_of([{"x": 1}])[0])
    assert xy.repeats([b, b, *rows_of([{"x": 2}])], xy.known([a])) == [b, b]


TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "5"}]
CHAT = {"kind": "chat", "prompt": "{text}", "completion": "{stars}"}
JUDGED = {"prompt": "hi", "completion": "ho"}


@pytest.mark.parametrize(
    ("options", "one", "other"),
    [
        (CHAT, {"text": "hi", "stars": "5"}, {"text": "hi", "stars": 5}),
        (CHAT, {"text": "a\nb", "stars": 1}, {"text": ["a", "b"], "stars": 1}),
        ({"kind": "alpaca"}, {"instruction": "go", "input": "", "output": "1"},
         {"instruction": "go", "input": None, "output": 1}),
        ({"kind": "alpaca"}, {"instruction": "go", "input": " ", "output": "1"}, {"instruction": "go", "output": 1}),
        ({"kind": "feedback"}, {**JUDGED, "label": True}, {**JUDGED, "label": 1}),
        ({"kind": "feedback"}, {**JUDGED, "label": "Yes"}, {**JUDGED, "label": "true"}),
        ({"kind": "openai"}, {"messages": TURNS}, {"messages": json.dumps(TURNS)}),
    ],
)  # fmt: skip
def test_rows_are_one_that_become_one_example_however_their_sources_write_them(options, one, other):
    same = Sameness((Host().make("prompt_format", options),))
    rows = rows_of([one, other])
    assert same.equals(rows[0], same.known(rows[1:]))
    with pytest.raises(BadInput, match="all 2 rows are equal in all that is read"):
        take_out(rows, split(0.5), 0, same)


def test_texts_that_are_learnt_otherwise_are_two():
    same = Sameness((Host().make("prompt_format", CHAT),))
    for one, other in ((True, "true"), (True, 1), (5, 5.0), ("5", "5 ")):
        rows = rows_of([{"text": "hi", "stars": one}, {"text": "hi", "stars": other}])
        assert not same.equals(rows[0], same.known(rows[1:]))


@pytest.mark.parametrize("way", [{"group": "by"}, {"time": "by"}])
def test_the_column_of_a_split_is_left_out_of_an_example_too(way):
    form = Host().make("prompt_format", {"kind": "chat", "prompt": "On day {by}: {text}", "completion": "{stars}"})
    rows = rows_of([{"by": by, "text": text, "stars": "5"} for by, text in [(1, "a"), (2, "b"), (3, "a"), (3, "c")]])
    kept, taken, dropped = take_out(rows, split(0.5, **way), 1, Sameness((form,)))
    assert {row.fields["text"] for row in kept}.isdisjoint({row.fields["text"] for row in taken})
    assert len(dropped) == 1


def test_where_nothing_can_stand_in_for_a_splits_column_the_others_are_compared():
    """As a conversation by whose turns a split goes."""
    form = Host().make("prompt_format", {"kind": "openai", "system": "{who}"})
    more = [*TURNS, {"role": "user", "content": "ho"}, TURNS[1]]
    rows = rows_of([{"messages": talk, "who": who} for talk, who in ((TURNS, 7), (more, "7"), (more, "8"))])
    same = Sameness((form,)).beside(split(0.5, group="messages"))
    assert same.together(rows) == [[0, 1], [2]]


@pytest.mark.parametrize("way", [{}, {"group": "text"}])
def test_a_row_of_which_a_format_makes_nothing_is_one_with_none_and_not_refused_here(way):
    same = Sameness((Host().make("prompt_format", CHAT),)).beside(split(0.5, **way))
    rows = rows_of([{"other": 1}, {"other": 1}, {"text": "hi", "stars": None}, {"text": "hi"}])
    assert same.together(rows) == [[0], [1], [2], [3]]
    assert same.repeats(rows, same.known(rows)) == []


# a plain example of the first two columns, a preference of all: rows are one that either format reads alike
PAIRS = Sameness((*same_in("text", "queue").formats, *same_in("text", "queue", "other").formats))


@reproducible
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.integers(0, 9)), min_size=2), fractions, seeds)
def test_rows_that_any_format_reads_alike_stay_on_one_side(values, fraction, seed):
    assume(len({value[:2] for value in values}) > 1)
    rows = rows_of([dict(zip(("text", "queue", "other"), value, strict=True)) for value in values])
    kept, taken, dropped = take_out(rows, split(fraction), seed, PAIRS)
    read = [{(row.fields["text"], row.fields["queue"]) for row in side} for side in (kept, taken)]
    assert all(read) and not read[0] & read[1] and not dropped


def test_what_is_one_by_way_of_a_third_row_stays_together_and_in_order():
    same = Sameness((*same_in("x").formats, *same_in("y").formats))
    rows = rows_of([{"x": x, "y": y} for x, y in [(1, 1), (9, 9), (2, 2), (3, 2), (2, 1), (3, 8), (7, 9), (6, 5)]])
    assert same.together(rows) == [[0, 2, 3, 4, 5], [1, 6], [7]]
    assert not same.equals(rows[0], same.known(rows[2:4]))  # but directly it is not
    assert same.equals(rows[4], same.known(rows[2:4]))


def test_rows_are_one_of_which_two_formats_make_one_example():
    """As two stages do, each of columns of its own."""
    read = (CHAT, {"kind": "chat", "prompt": "{question}", "completion": "{answer}"})
    same = Sameness(tuple(Host().make("prompt_format", options) for options in read))
    rows = rows_of([{"text": "hi", "stars": 5}, {"question": "hi", "answer": "5"}, {"question": "hi", "answer": "4"}])
    assert same.together(rows) == [[0, 1], [2]]


def test_a_long_chain_of_equal_rows_takes_no_time():
    same = Sameness((*same_in("x").formats, *same_in("y").formats), known_digests={})
    rows = rows_of([{"x": n // 2, "y": (n + 1) // 2} for n in reversed(range(5000))])
    assert same.together(rows) == [list(range(5000))]


def test_a_field_that_cannot_be_compared_is_named_with_its_row():
    rows = rows_of([{"x": "half of a pair: \ud800", "y": 1}])
    reads_x, reads_y = (Host().make("prompt_format", {"kind": "text", "text": text}) for text in ("{x}", "{y}"))
    with pytest.raises(BadInput, match="listed:1: a field cannot be compared"):
        Sameness((reads_x,)).known(rows)
    assert Sameness((reads_y,)).known(rows)  # nobody reads it
