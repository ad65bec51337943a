"""Several sources become one mixture: shares as the weights say, no row lost, equal seeds give equal rows."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from listed import Listed, numbered, same_in

from tunewright.data.rows import BadSource, draws, realise_all, realise_parts
from tunewright.errors import BadInput
from tunewright.parts.data_source import weights_at_odds
from tunewright.spec.model import Split

READ = same_in("text", "v")
reproducible = settings(derandomize=True, deadline=None, max_examples=150)
weights = st.decimals("0.1", "10", places=1).map(float)
sources = st.lists(
    st.tuples(st.integers(1, 40), weights, st.sampled_from([0.5, 1.0, 1.3, 2.0])), min_size=2, max_size=4
)


def given_rows(found):
    return [one.given for one in found]


def split(fraction, **way):
    return Split(kind="split", fraction=fraction, **way)


@reproducible
@given(sources, st.integers(0, 9))
def test_shares_are_within_one_row_of_the_weights_and_the_mixture_is_the_largest(written, seed):
    made = [numbered(rows, f"s{n}", weight=w, epochs=e) for n, (rows, w, e) in enumerate(written)]
    most = [round(Fraction(str(e)) * rows) for rows, _, e in written]
    if not all(most):
        return
    try:
        found = realise_all(made, seed)
    except BadSource as error:
        assert error.finding.field == "weight"
        shares = [Fraction(str(w)) for _, w, _ in written]
        unit = min(m / w for m, w in zip(most, shares, strict=True))
        assert any(round(unit * w) == 0 for w in shares)
        return
    counts = given_rows(found)
    total, weighed = sum(counts), sum(w for _, w, _ in written)
    for count, (_, w, _) in zip(counts, written, strict=True):
        assert abs(count - total * w / weighed) < 1 + len(counts) / 2  # each of the others is rounded as well
        exact = min(m / x for m, (_, x, _) in zip(most, written, strict=True)) * w
        assert abs(count - exact) <= 0.5 + 1e-9
    assert all(count <= limit for count, limit in zip(counts, most, strict=True))
    assert any(count == limit for count, limit in zip(counts, most, strict=True))


@reproducible
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(10, 35)), min_size=1, max_size=3), st.integers(0, 9))
def test_without_weights_every_row_is_given_as_often_as_its_epochs_say(written, seed):
    made = [numbered(rows, f"s{n}", epochs=tenths / 10) for n, (rows, tenths) in enumerate(written)]
    for one, (rows, tenths) in zip(realise_all(made, seed), written, strict=True):
        often = Counter(row.fields["text"] for row in one.rows)
        assert set(often.values()) <= {tenths // 10, tenths // 10 + 1}
        assert len(often) == rows
        assert one.given == round(Fraction(tenths, 10) * rows)
        assert len({row.id for row in one.rows}) == one.given
        assert one.copies == one.given - rows


def test_the_source_that_is_used_up_first_gives_all_it_may():
    found = realise_all([numbered(100, "a", weight=3), numbered(10, "b", weight=1, epochs=2)], 0)
    assert given_rows(found) == [60, 20]
    assert [one.copies for one in found] == [0, 10]
    assert given_rows(realise_all([numbered(100, "a", weight=0.7), numbered(100, "b", weight=0.3)], 0)) == [100, 43]


def test_the_seed_draws_and_nothing_else():
    def texts(seed):
        made = [numbered(40, "a", weight=1), numbered(10, "b", weight=1, epochs=1.5)]
        return [[row.id for row in one.rows] for one in realise_all(made, seed)]

    assert texts(3) == texts(3) != texts(4)


def test_the_seed_has_a_say_where_rows_are_drawn():
    assert [draws(numbered(3, **options)) for options in ({}, {"epochs": 2}, {"epochs": 1.5}, {"weight": 1})] == [
        False,
        False,
        True,
        True,
    ]


def test_a_weight_on_some_of_the_sources_is_refused_at_the_one_without():
    made = [numbered(5, "a", weight=2), numbered(5, "b")]
    with pytest.raises(BadSource, match="`b` has no weight, `a` in the same list has one") as caught:
        realise_all(made, 0)
    assert caught.value.source is made[1]
    assert (caught.value.finding.code, caught.value.finding.field) == ("bad-value", "weight")
    assert [source.name for source, _ in weights_at_odds(made)] == ["b"]
    assert not list(weights_at_odds([numbered(5, "a"), numbered(5, "b")]))


def test_a_weight_on_the_only_source_is_refused():
    with pytest.raises(BadSource, match="does nothing"):
        realise_all([numbered(5, weight=2)], 0)


def test_a_source_that_would_give_nothing_is_refused_with_the_one_that_is_scarce():
    made = [numbered(3, "few", weight=100), numbered(50, "many", weight=1)]
    with pytest.raises(BadSource, match="leaves none of 50 rows of `many`") as caught:
        realise_all(made, 0)
    assert "`few` is used up first" in caught.value.finding.suggestion


def test_copies_are_made_after_the_split():
    made = [numbered(20, "a", epochs=3), numbered(20, "b", epochs=0.5)]
    parts = realise_parts(made, 0, READ, split(0.2), split(0.25))
    sides = [{row.fields["text"] for one in side for row in one.rows} for side in parts]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert sum(one.kept for side in parts for one in side) == 40
    assert [sum(given_rows(side)) for side in parts[1:]] == [6, 10]  # a fifth of the 30 that the test rows leave
    learnt = parts.train[0]
    assert learnt.given == 3 * learnt.kept
    assert all("#" not in row.id for side in parts[1:] for one in side for row in one.rows)


def test_test_rows_do_not_depend_on_what_else_is_asked():
    made = [numbered(20, "a", epochs=3), numbered(20, "b")]
    both = realise_parts(made, 0, READ, split(0.25), split(0.25)).test
    assert both == realise_parts(made, 0, READ, None, split(0.25)).test


def test_sides_without_a_split_are_empty():
    parts = realise_parts([numbered(4)], 0, READ)
    assert (given_rows(parts.train), parts.validation, parts.test) == ([4], [], [])


def test_weights_count_what_the_splits_leave():
    made = [numbered(40, "a", weight=1), numbered(40, "b", weight=1)]
    found = realise_parts(made, 0, READ, test=split(0.5)).train
    assert given_rows(found) == [min(one.kept for one in found)] * 2


def test_a_share_of_a_source_that_a_split_takes_whole_is_refused():
    old = Listed([{"text": str(n), "day": "2025-01-01"} for n in range(5)], "old", weight=1)
    new = Listed([{"text": f"new {n}", "day": "2026-01-01"} for n in range(5)], "new", weight=1)
    with pytest.raises(BadSource, match="leave no row of `new`"):
        realise_parts([old, new], 0, READ, test=split(0.5, time="day"))


@reproducible
@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=12), min_size=1, max_size=3), st.integers(0, 5))
def test_no_row_is_lost_or_invented_over_all_sides(values, seed):
    made = [Listed([{"v": v} for v in one], f"s{n % 2}") for n, one in enumerate(values)]
    try:
        parts = realise_parts(made, seed, READ, split(0.3), split(0.3))
    except BadInput as error:  # too few that differ
        assert "are equal in all that is read" in error.message or "there is one row" in error.message
        assume(False)
    ids = [row.id for side in parts for one in side for row in one.rows]
    assert len(ids) == len(set(ids)) == sum(map(len, values))
    assert Counter(row.fields["v"] for side in parts for one in side for row in one.rows) == Counter(
        v for one in values for v in one
    )
