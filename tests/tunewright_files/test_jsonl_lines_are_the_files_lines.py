"""A line of jsonl ends where the file's lines end, for a head as for the rows, and holds what JSON can hold."""

from __future__ import annotations

import os

import pytest

from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption
from tunewright.parts.data_source import Broken
from tunewright_files.jsonl import Jsonl, JsonlOptions


@pytest.fixture
def source(tmp_path):
    def made(text):
        (tmp_path / "x.jsonl").write_bytes(text.encode())
        return Jsonl(JsonlOptions(path=SpecPath("x.jsonl", tmp_path)))

    return made


def test_signs_that_end_lines_elsewhere_may_stand_in_a_text(source):
    made = source('{"text": "a\u2028b\x85c"}\r\n{"text": "d"}\r\n')
    assert (
        [dict(row.fields) for row in made.rows()]
        == list(made.head().rows)
        == [{"text": "a\u2028b\x85c"}, {"text": "d"}]
    )


def test_a_head_counts_empty_lines_as_the_rows_do(source):
    with pytest.raises(BadOption, match=r"x\.jsonl:3:1: not JSON"):
        source("\n\nnothing\n").head()


def test_a_list_over_the_whole_file_is_told_its_kind(source):
    with pytest.raises(BadOption, match="`kind: json`"):
        source('[{"text": "a"}]').head()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_of_json_is_broken(source, number):
    (found,) = source(f'{{"n": {number}}}\n').rows()
    assert found == Broken("x.jsonl:1", f"not readable: `{number}` is no number of JSON: write null")


def test_a_file_that_may_not_be_read_is_a_finding(source, monkeypatch):
    made = source('{"text": "a"}\n')
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    for call in (made.head, made.digest, lambda: list(made.rows())):
        with pytest.raises(BadOption) as caught:
            call()
        assert caught.value.finding.code == "file-unreadable"
