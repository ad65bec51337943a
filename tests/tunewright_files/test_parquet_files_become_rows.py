"""Rows of a parquet file: Python's plain values, a few at a time, and what is wrong with a file that gives none."""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal

import pytest

from tunewright.errors import MissingExtra
from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption
from tunewright.parts.data_source import Broken, Row
from tunewright.testing import check_data_source
from tunewright_files.arrow import AT_ONCE
from tunewright_files.parquet import Parquet, ParquetOptions

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = [{"text": f"café ☕ {number}", "spans": [{"at": number, "of": ["a", None]}]} for number in range(200)]


@pytest.fixture
def source(tmp_path):
    def made(content, **written):
        path = tmp_path / "x.parquet"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            table = pa.Table.from_pylist(content) if isinstance(content, list) else content
            pq.write_table(table, path, **written)
        return Parquet(ParquetOptions(path=SpecPath("x.parquet", tmp_path)))

    return made


def fields(source):
    return [dict(row.fields) for row in source.rows()]


def refusal(call):
    with pytest.raises(BadOption) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("group", [1, 7, 1000])
def test_lists_and_structs_stay_lists_and_mappings_over_all_row_groups(source, group):
    made = source(ROWS, row_group_size=group)
    assert fields(made) == ROWS
    assert [row.origin for row in made.rows()][::199] == ["x.parquet: row 1", "x.parquet: row 200"]


def test_a_head_has_the_footers_columns_and_the_first_rows(source):
    assert source(ROWS).head() == (("text", "spans"), tuple(ROWS[:AT_ONCE]))


def test_a_head_reads_the_first_rows_and_not_the_file(source, tmp_path, monkeypatch):
    made = source(
        [{"text": f"{number} " + "x" * 1000} for number in range(5000)], row_group_size=500, compression="none"
    )
    asked = []
    opened = pa.OSFile

    whole = (tmp_path / "x.parquet").stat().st_size
    monkeypatch.setattr(pa, "OSFile", lambda path: pa.PythonFile(Handle(opened(path), asked)))
    assert len(made.head().rows) == AT_ONCE
    assert 0 < sum(asked) < 512 * 1024 <= whole


class Handle:
    """A file that notes how much of it is read."""

    def __init__(self, file, asked):
        self.file, self.asked = file, asked

    def read(self, size=-1):
        found = self.file.read(size)
        self.asked.append(len(found))
        return found

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_dates_decimals_and_missing_numbers_become_what_json_holds(source):
    zone = datetime.timezone(datetime.timedelta(hours=2))
    table = pa.table({
        "at": [datetime.datetime(2024, 5, 1, 12, 30)],
        "zoned": [datetime.datetime(2024, 5, 1, 12, 30, tzinfo=zone)],
        "fine": pa.array([1714566600123456789], pa.timestamp("ns")),
        "day": [datetime.date(2024, 5, 1)],
        "clock": [datetime.time(12, 30)],
        "long": [datetime.timedelta(minutes=1.5)],
        "price": [Decimal("12.50")],
        "none": pa.array([float("nan")]),
        "kind": pa.array(["a"]).dictionary_encode(),
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())),
    })  # fmt: skip
    assert fields(source(table)) == [{
        "at": "2024-05-01T12:30:00", "zoned": "2024-05-01T12:30:00+02:00", "fine": "2024-05-01T12:30:00.123456789",
        "day": "2024-05-01", "clock": "12:30:00", "long": 90.0, "price": "12.50", "none": None, "kind": "a",
        "map": {"k": 1},
    }]  # fmt: skip


def test_columns_of_bytes_are_left_out_wherever_the_bytes_stand(source):
    table = pa.table({
        "text": ["a"], "image": [{"bytes": b"\x89PNG", "path": "a.png"}], "sounds": [[b"RIFF"]], "raw": [b"x"],
        "a.b": [1], "fixed": pa.array([b"xy"], pa.binary(2)),
    })  # fmt: skip
    made = source(table)
    assert made.head() == (("text", "a.b"), ({"text": "a", "a.b": 1},))
    assert fields(made) == [{"text": "a", "a.b": 1}]


def test_one_row_that_is_no_text_is_broken_and_the_others_are_read(source):
    data = pa.py_buffer(b"fine\xff\xfelast")
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 4, 6, 10)))
    text = pa.Array.from_buffers(pa.string(), 3, [None, offsets, data])
    found = list(source(pa.table({"text": text, "x": [1.0, 2.0, float("inf")]})).rows())
    assert [type(row) for row in found] == [Row, Broken, Broken]
    assert [row.origin for row in found[1:]] == ["x.parquet: row 2", "x.parquet: row 3"]
    assert "UTF8" in found[1].why
    assert "`x` holds an infinite number" in found[2].why
    assert [dict(row) for row in source(None).head().rows] == [{"text": "fine", "x": 1.0}]


def test_a_table_without_rows_has_columns(source):
    made = source(pa.table({"text": pa.array([], pa.string())}))
    assert made.head() == (("text",), ())
    assert list(made.rows()) == []


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (None, "file-missing", "x.parquet"),
        (b"", "file-empty", "empty"),
        (b"text,label\na,b\n", "file-unreadable", "damaged or of another kind"),
        (b"PAR1" * 9, "file-unreadable", "x.parquet"),
        (lambda: pa.table([[1], [2]], ["n", "n"]), "bad-header", "two columns `n`"),
        (lambda: pa.table([[1]], [""]), "bad-header", "without a name"),
        (lambda: pa.table({"image": [b"x"]}), "bad-header", "all hold bytes"),
    ],
)
def test_a_file_that_cannot_be_rows_is_a_finding_on_its_path(source, content, code, says):
    made = source(content() if callable(content) else content)
    for call in (made.head, lambda: list(made.rows())):
        found = refusal(call)
        assert (found.finding.code, found.finding.field) == (code, "path")
        assert says in str(found)


def test_a_file_cut_short_or_damaged_is_never_a_traceback(source, tmp_path):
    source(ROWS, compression="none")
    whole = (tmp_path / "x.parquet").read_bytes()
    for place in range(0, len(whole), 97):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            made = source(damaged)
            for call in (made.head, lambda made=made: list(made.rows())):
                try:
                    call()
                except BadOption as error:
                    assert error.finding.field == "path"


def test_rows_are_read_a_few_at_a_time(source):
    made = source(pa.table({"text": ["x" * 1000 + str(number) for number in range(20_000)]}), use_dictionary=False)
    before, most = pa.total_allocated_bytes(), 0
    for _ in made.rows():
        most = max(most, pa.total_allocated_bytes() - before)
    assert 0 < most < 4 << 20  # the one row group has 20 MB


def test_without_pyarrow_the_extra_is_named(source, monkeypatch):
    made = source(ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"tunewright\[train\]"):
        made.head()


def test_it_keeps_its_contract(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS[:5]), tmp_path / "rows.parquet", compression="none")
    check_data_source(Parquet, {"path": tmp_path / "rows.parquet"}, folder=tmp_path / "kit")
