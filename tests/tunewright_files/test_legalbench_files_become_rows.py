"""LegalBench's rows: tasks by name and pattern, the rows of a task drawn together, and misspelt tasks refused."""

from __future__ import annotations

import json

import pytest

from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption
from tunewright.parts.data_source import Broken
from tunewright.testing import check_data_source
from tunewright_files.legalbench import LegalBench, LegalBenchOptions

ROWS = [
    {"task": "lease_term", "text": "The lease ends in May.", "answer": "Yes"},
    {"task": "lease_term", "text": "The tenant paints.", "answer": "No"},
    {"task": "lease_rent", "text": "The tenant paints.", "answer": "No"},
    {"task": "heirs_(will)", "text": "All goes to Ann.", "answer": "A"},
]


@pytest.fixture
def source(tmp_path):
    def made(rows=ROWS, **options):
        (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return LegalBench(LegalBenchOptions(path=SpecPath("rows.jsonl", tmp_path), **options))

    return made


def tasks(found):
    return [row.fields["task"] for row in found.rows()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["lease_term", "lease_term", "lease_rent", "heirs_(will)"]),
        ({"tasks": ["lease_*"]}, ["lease_term", "lease_term", "lease_rent"]),
        ({"tasks": ["heirs_(will)", "lease_rent"]}, ["lease_rent", "heirs_(will)"]),
        ({"leave_out": ["lease_*"]}, ["heirs_(will)"]),
        ({"tasks": ["lease_*"], "leave_out": ["*_term"]}, ["lease_rent"]),
    ],
)
def test_tasks_are_chosen_by_name_and_pattern(source, options, expected):
    found = source(**options)
    assert tasks(found) == [row["task"] for row in found.head().rows] == expected


def test_the_same_patterns_part_the_file_in_two(source):
    tested = ["*_rent", "heirs*"]
    test, rest = tasks(source(tasks=tested)), tasks(source(leave_out=tested))
    assert sorted([*test, *rest]) == sorted(tasks(source()))
    assert not set(test) & set(rest)


@pytest.mark.parametrize("field", ["tasks", "leave_out"])
def test_a_task_that_the_file_does_not_have_is_refused_at_its_place(source, field):
    with pytest.raises(BadOption) as caught:
        list(source(**{field: ["lease_*", "lease_trem"]}).rows())
    finding = caught.value.finding
    assert (finding.code, finding.field) == ("value-never-occurs", f"{field}.1")
    assert "`lease_trem`" in finding.message
    assert "lease_term" in finding.suggestion


def test_rows_that_stand_or_fall_together_have_one_group(source):
    assert [row.group for row in source().rows()] == [row["task"] for row in ROWS]
    by_text = [row.group for row in source(group="text").rows()]
    assert by_text[1] == by_text[2]
    assert len(set(by_text)) == 3
    assert {row.group for row in source(group="none").rows()} == {None}


def test_a_head_without_the_chosen_tasks_still_has_the_columns(source):
    far = [{"task": "first", "text": "x" * 1000, "answer": "Yes"}] * 100 + ROWS
    assert source(far, tasks=["lease_*"]).head() == (("task", "text", "answer"), ())


def test_a_line_without_an_answer_is_named(source):
    rows = list(source([*ROWS, {"task": "lease_term", "text": "Empty."}, {**ROWS[0], "answer": ""}]).rows())
    broken = {row.origin: row.why for row in rows if isinstance(row, Broken)}
    assert list(broken) == ["rows.jsonl:5", "rows.jsonl:6"]
    assert "it has no `answer`" in broken["rows.jsonl:5"]


def test_another_file_is_told_what_a_row_has(source):
    with pytest.raises(BadOption, match=r"rows\.jsonl:1: it has no `task`: a row of LegalBench has"):
        source([{"text": "where is my parcel", "label": "delivery"}]).head()


def test_legalbench_keeps_its_contract(tmp_path, source):
    source()
    options = {"path": tmp_path / "rows.jsonl", "tasks": ["lease_*"], "leave_out": ["lease_term"]}
    check_data_source(LegalBench, {"path": options["path"]}, folder=tmp_path / "kit")
    check_data_source(LegalBench, options, folder=tmp_path / "kit-of-some")
