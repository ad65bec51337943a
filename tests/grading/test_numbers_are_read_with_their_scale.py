"""The number that an answer gives is read as a person reads it, or not at all."""

from __future__ import annotations

import pytest

from tunewright.grading.number import Number, read, same


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("354.8", Number(354.8)),
        ("1,234,567.5", Number(1234567.5)),
        ("1 234.5", Number(1234.5)),
        ("1'234", Number(1234)),
        ("12%", Number(12, "percent")),
        ("12 per cent", Number(12, "percent")),
        ("(12.5)", Number(-12.5)),
        ("a loss of $(1,200) in all", Number(-1200)),
        ("it fell (12 stores)", Number(12)),
        ("-$3.2bn", Number(-3.2, "billion")),
        ("$1.2m", Number(1.2, "million")),
        ("EUR 380 thousand", Number(380, "thousand")),
        ("−7", Number(-7)),
        ("minus 4", Number(-4)),
        ("It was minus $4.5 million.", Number(-4.5, "million")),
        ("negative 12%", Number(-12, "percent")),
        ("(0.3) million", Number(-0.3, "million")),
        ("($1.2)m", Number(-1.2, "million")),
        ("(5)%", Number(-5, "percent")),
        ("10 minus 4 = 6", Number(6)),
        ("1.5e3", Number(1500)),
        ("12 metres", Number(12)),
        ("The figure for FY30 is 506.", Number(506)),
        ("434.5 / 395 - 1 = 10.0", Number(10.0)),
        ("506\n\nBecause 483 is FY30", Number(506)),
        ("506, that is 506", Number(506)),
    ],
)
def test_a_number_is_read(text, expected):
    assert read(text) == expected


@pytest.mark.parametrize("text", ["", "no idea", "between 3 and 5", "5 minus 5", "1.2.3", "FY30", "1,23"])
def test_what_gives_no_single_number_is_none(text):
    assert read(text) is None


def test_tolerances_are_absolute_or_of_the_wanted():
    assert same(Number(10.05), Number(10), tolerance=0.05)
    assert not same(Number(10.06), Number(10), tolerance=0.05)
    assert same(Number(-99), Number(-100), relative=0.01)
    assert not same(Number(-98.9), Number(-100), relative=0.01)
    assert same(Number(0.1 + 0.2), Number(0.3))
    assert not same(None, Number(0))


def test_scales_must_agree_where_both_are_said():
    assert same(Number(1_200_000), Number(1.2, "million"))
    assert same(Number(1.2), Number(1.2, "million"))
    assert not same(Number(1.2), Number(1.2, "million"), strict=True)
    assert not same(Number(1.2, "billion"), Number(1.2, "million"))
    assert same(Number(0.12), Number(12, "percent"), strict=True)
    assert same(Number(380, "thousand"), Number(380000), strict=True)
