"""A list of objects, one under a key, objects by their ids: read piece by piece, and told what is wrong with them."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption
from tunewright.parts.data_source import Broken, Row
from tunewright.testing import check_data_source
from tunewright_files import stream
from tunewright_files.json import JsonFile, JsonOptions

ROWS = [{"text": "where is my parcel", "label": "delivery"}, {"text": "café ☕ 日本 \u2028", "label": "billing"}]


@pytest.fixture
def source(tmp_path):
    def made(content, **options):
        content = content if isinstance(content, str | bytes) else json.dumps(content)
        (tmp_path / "x.json").write_bytes(content if isinstance(content, bytes) else content.encode())
        return JsonFile(JsonOptions(path=SpecPath("x.json", tmp_path), **options))

    return made


def fields(source):
    return [dict(row.fields) for row in source.rows()]


def refusal(call):
    with pytest.raises(BadOption) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("ascii", [True, False])
def test_a_list_of_objects(source, indent, ascii):
    made = source("\ufeff" + json.dumps(ROWS, indent=indent, ensure_ascii=ascii) + "\n")
    assert fields(made) == ROWS
    assert [(row.id, row.origin) for row in made.rows()] == [("x.json: item 1",) * 2, ("x.json: item 2",) * 2]
    assert made.head() == (("text", "label"), tuple(ROWS))


def test_a_list_under_a_key_with_others_around_it(source):
    made = source({"version": "1", "meta": {"rows": [1, 2], "odd": '}"]'}, "rows": ROWS, "after": [[]]}, rows="rows")
    assert fields(made) == ROWS
    assert made.head().columns == ("text", "label")


def test_objects_by_their_ids(source):
    made = source({"21645374": ROWS[0], "ß": ROWS[1]}, key="pubid")
    assert fields(made) == [{"pubid": "21645374", **ROWS[0]}, {"pubid": "ß", **ROWS[1]}]
    assert [row.id for row in made.rows()] == ["x.json: 21645374", "x.json: ß"]
    assert made.head().columns == ("pubid", "text", "label")


def test_objects_by_their_ids_under_a_key(source):
    assert fields(source({"v": 1, "data": {"a": {"n": 1}}}, rows="data", key="id")) == [{"id": "a", "n": 1}]


def test_values_stay_what_they_are(source):
    row = {"n": 1, "x": 1.5, "yes": True, "none": None, "spans": ["a", ["b"]], "table": {"rows": [[1, "2"]], "": {}}}
    assert fields(source([row])) == [row]


BROKEN = """[
  {"text": "fine"},
  ["no", {"object": 1}],
  {'text': 'quotes, of [another] language'},
  nothing,
  {"text": "half \\ud83d"},
  {"text": NaN},
  {"text": "bad \xff byte"},
  {"n": %s},
  {"text": %s1%s},
  "text",
  {"text": "last"}
]""" % ("9" * 5000, "[" * 99999, "]" * 99999)  # noqa: UP031  braces stand in it


def test_a_broken_row_is_named_and_the_others_are_read(source):
    found = list(source(BROKEN.encode("latin-1")).rows())
    assert [dict(row.fields) for row in found if isinstance(row, Row)] == [{"text": "fine"}, {"text": "last"}]
    broken = {row.origin.rpartition(" ")[2]: row.why for row in found if isinstance(row, Broken)}
    assert list(broken) == ["2", "3", "4", "5", "6", "7", "8", "9", "10"]
    said = {
        "2": "not a JSON object", "3": "line 4", "4": "line 5", "5": "surrogate", "6": "`NaN` is no number",
        "7": "not UTF-8", "8": "not readable", "9": "nested too deeply", "10": "not a JSON object",
    }  # fmt: skip
    assert {item: why for item, why in broken.items() if said[item] not in why} == {}


def test_an_id_that_stands_twice_and_a_column_that_is_taken_are_broken(source):
    made = source('{"a": {"n": 1}, "b": {"id": 2}, "a": {"n": 3}, "c": "yes", "\\ud83d": {}}', key="id")
    found = list(made.rows())
    assert isinstance(found[0], Row)
    assert [row.origin for row in found[1:]] == ["x.json: b", "x.json: a", "x.json: c", "x.json: \\ud83d"]
    said = ["of its own", "a second time", "not a JSON object", "surrogate"]
    assert [what for what, row in zip(said, found[1:], strict=True) if what not in row.why] == []


@pytest.mark.parametrize(
    ("content", "options", "code", "field", "says"),
    [
        ('{"data": [], "n": 1}', {}, "bad-json", "path", "`rows: data`"),
        ('{"1": {"text": "x"}, "2": {"text": "y"}}', {}, "bad-json", "path", "`key: id`"),
        ('{"text": "x"}\n{"text": "y"}\n', {}, "bad-json", "path", "`kind: jsonl`"),
        ('{"text": [1]}', {"rows": "texts"}, "bad-value", "rows", "`text`"),
        ('[{"text": 1}]', {"rows": "text"}, "bad-value", "rows", "leave `rows` out"),
        ('[{"text": 1}]', {"key": "id"}, "bad-value", "key", "leave `key` out"),
        ('{"data": 7}', {"rows": "data"}, "bad-json", "path", "x.json:1: neither a list"),
        ('{"a": [{}], "a": [{}]}', {"rows": "a"}, "bad-json", "path", "a second time"),
        ('"text"', {}, "bad-json", "path", "neither a list"),
        (" \n ", {}, "bad-json", "path", "x.json:2"),
        ("[]", {}, "no-rows", "path", "no rows"),
        ("{}", {"key": "id"}, "no-rows", "path", "no rows"),
        ('["a"]', {}, "bad-json", "path", "item 1: not a JSON object"),
        ("", {}, "file-empty", "path", "empty"),
        ("[{}]".encode("utf-16"), {}, "not-utf-8", "path", "x.json:1"),
    ],
)
def test_what_cannot_be_rows_says_what_to_write(source, content, options, code, field, says):
    found = refusal(source(content, **options).head)
    assert (found.finding.code, found.finding.field) == (code, field)
    assert says in str(found)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[\n{"a": 1}\n{"a": 2}]', "x.json:3: `, or ]` should be here"),
        ('[{"a": 1},\n]', "x.json:2: a value should be here"),
        ('[{"a": 1}, {"a": "never\nends', "x.json:1: the file ends"),
        ("[" + '{"a": 1},\n' * 20_000 + "{} {}]", "x.json:20001: `, or ]`"),
        ('[{"a": 1}] [', "goes on"),
        ('{"a": {"n": 1}, b: {}}', "a key in double quotes"),
    ],
)
def test_a_file_that_is_no_json_stops_at_the_line(source, content, says):
    made = source(content, **({"key": "id"} if content[0] == "{" else {}))
    found = refusal(lambda: list(made.rows()))
    assert found.finding.code == "bad-json"
    assert says in str(found)


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_where_a_block_ends_makes_no_difference(source, monkeypatch, block):
    whole = json.dumps(
        {"n": 123456, "x": [1, "]}", "\\", ',"'], "rows": [*ROWS, {'a\\\\"': '\\"', "n": -1.5e9}]}, ensure_ascii=False
    )
    made = source(whole, rows="rows")
    broken = source
    expected = fields(made)
    monkeypatch.setattr(stream, "BLOCK", block)
    assert fields(made) == expected == json.loads(whole)["rows"]
    found = [tuple(row) for row in broken('[{"a": 1}, {a}, 12, "é", {"b": 2}]').rows() if isinstance(row, Broken)]
    assert [origin for origin, _ in found] == ["x.json: item 2", "x.json: item 3", "x.json: item 4"]


def counted(monkeypatch):
    """Bytes that are read from now on."""
    sizes = []
    more = stream.JsonText._more

    def counting(text):
        before = text.file.tell()
        try:
            return more(text)
        finally:
            sizes.append(text.file.tell() - before)

    monkeypatch.setattr(stream.JsonText, "_more", counting)
    return sizes


def test_a_head_takes_64_kib_of_a_large_file(source, monkeypatch):
    made = source([{"text": "x" * 100, "n": n} for n in range(10_000)])
    sizes = counted(monkeypatch)
    head = made.head()
    assert sum(sizes) <= 64 * 1024
    assert len(head.rows) > 400
    assert list(head.rows) == fields(made)[: len(head.rows)]


def test_a_first_row_longer_than_the_head_still_has_columns(source):
    made = source([{"text": "x" * 100_000}, {"text": "y", "late": 1}])
    assert made.head().columns == ("text",)


def test_rows_that_begin_too_late_for_a_head_are_refused_with_a_way_out(source):
    made = source({"images": ["x" * 1000] * 2000, "rows": ROWS}, rows="rows")
    assert fields(made) == ROWS
    assert "jq '.rows' x.json > rows.json" in str(refusal(made.head))


def test_a_row_of_more_than_a_mebibyte_is_broken_and_the_next_is_read(source):
    made = source([{"n": 1}, {"text": "x" * (3 << 20)}, {"text": "x" * ((1 << 20) + 9)}, {"n": 2}])
    found = list(made.rows())
    assert ["1,048,576" in row.why for row in found if isinstance(row, Broken)] == [True, True]
    assert [dict(row.fields) for row in found if isinstance(row, Row)] == [{"n": 1}, {"n": 2}]


def test_a_quote_that_is_never_closed_does_not_take_the_memory_of_the_file(source):
    made = source('[{"n": 1},\n{"n": "' + "x\\\\" * (10 << 20))
    tracemalloc.start()
    try:
        found = refusal(lambda: list(made.rows()))
        assert tracemalloc.get_traced_memory()[1] < 12 << 20  # the file has 30 MB
    finally:
        tracemalloc.stop()
    assert "begins on line 2" in str(found)


def test_rows_take_the_memory_of_one_block(source):
    made = source({"skipped": ["x" * 100] * 50_000, "rows": [{"text": "x" * 100}] * 50_000}, rows="rows")
    tracemalloc.start()
    try:
        assert sum(1 for _ in made.rows()) == 50_000
        assert tracemalloc.get_traced_memory()[1] < 2 << 20  # the file has 10 MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (json.dumps(ROWS, indent=1), {}),
        (json.dumps({"data": ROWS, "more": [{"text": "late", "label": "no"}]}), {"rows": "data"}),
        (json.dumps({"a": ROWS[0], "b": ROWS[1]}), {"key": "id"}),
    ],
)
def test_it_keeps_its_contract(tmp_path, content, options):
    (tmp_path / "rows.json").write_text(content)
    check_data_source(JsonFile, {"path": tmp_path / "rows.json", **options}, folder=tmp_path / "kit")
