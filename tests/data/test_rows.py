"""Rows are filtered, drawn by the seed and counted; what is wrong with them is said before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
from listed import same_in

from tunewright.data.rows import BadSource, realise, realise_all, realise_parts
from tunewright.errors import BadInput
from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption
from tunewright.spec.model import Split
from tunewright_files.csv import Csv, CsvOptions
from tunewright_files.jsonl import Jsonl, JsonlOptions


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"message {n},{'ab'[n % 2]}\n" for n in range(20)))

    def source(**options):
        return Csv(CsvOptions(path=SpecPath("rows.csv", tmp_path), **options))

    return source


def texts(realised):
    return [row.fields["text"] for row in realised.rows]


def test_origins_are_the_files_lines(csv):
    assert [row.origin for row in realise(csv(limit=2), 0).rows] == ["rows.csv:2", "rows.csv:3"]


def test_where_keeps_matching_rows(csv):
    assert {row.fields["label"] for row in realise(csv(where={"label": "a"}), 0).rows} == {"a"}
    assert len(realise(csv(where={"label": ["a", "b"]}), 0).rows) == 20


def test_where_comes_before_sample(csv):
    found = realise(csv(where={"label": "a"}, sample=5), 0)
    assert len(found.rows) == 5
    assert {row.fields["label"] for row in found.rows} == {"a"}


def test_a_sample_follows_from_the_seed(csv):
    first, again, other = (texts(realise(csv(sample=5), seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_limit_takes_the_first(csv):
    assert texts(realise(csv(limit=3), 9)) == ["message 0", "message 1", "message 2"]


def test_epochs_give_whole_copies_and_draw_the_rest(csv):
    found = realise(csv(limit=4, epochs=2.5), 0)
    assert (found.read, found.kept, found.given, found.copies) == (20, 4, 10, 6)
    assert len({row.id for row in found.rows}) == 10
    assert [row.id for row in found.rows[:5]] == [*(f"rows.csv:{n}" for n in (2, 3, 4, 5)), "rows.csv:2#2"]
    assert {row.id[-2:] for row in found.rows[8:]} == {"#3"}
    part = realise(csv(epochs=0.25), 0)
    assert (part.kept, part.given, part.copies) == (20, 5, 0)


def test_a_value_that_never_occurs_is_named_with_its_field(csv):
    with pytest.raises(BadOption, match="label = `c`") as caught:
        realise(csv(where={"label": ["a", "c"]}), 0)
    assert caught.value.finding.field == "where.label"


def test_drawing_more_rows_than_there_are_is_an_error(csv):
    with pytest.raises(BadOption, match="20 rows"):
        realise(csv(sample=21), 0)


def test_a_file_with_a_header_only_has_no_rows(tmp_path):
    (tmp_path / "e.csv").write_text("text,label\n")
    with pytest.raises(BadOption, match="has no rows"):
        realise(Csv(CsvOptions(path=SpecPath("e.csv", tmp_path))), 0)


def test_ids_differ_when_two_sources_have_one_name(csv):
    rows = [row.id for one in realise_all([csv(), csv()], 0) for row in one.rows]
    assert len(rows) == len(set(rows)) == 40


RAGGED = b'text,label\nfine,a\n"two\nlines",b\nragged\nbad \xff byte,a\nnul\0,a\nlast,b\n'


def test_broken_rows_are_set_aside_and_counted_when_the_spec_says_so(tmp_path):
    (tmp_path / "r.csv").write_bytes(RAGGED)
    found = realise(Csv(CsvOptions(path=SpecPath("r.csv", tmp_path), on_error="set_aside")), 0)
    assert [row.origin for row in found.rows] == ["r.csv:2", "r.csv:3", "r.csv:8"]
    assert [broken.origin for broken in found.set_aside] == ["r.csv:5", "r.csv:6:5", "r.csv:7:4"]


def test_a_broken_row_stops_by_default_and_is_named(tmp_path):
    (tmp_path / "r.csv").write_bytes(RAGGED)
    with pytest.raises(BadInput, match=r"r\.csv:5: 1 fields, the header has 2"):
        realise(Csv(CsvOptions(path=SpecPath("r.csv", tmp_path))), 0)


@pytest.mark.parametrize(
    ("line", "said"),
    [("{'a': 1}", "r.jsonl:2:2: not JSON"), ("[1]", "r.jsonl:2: not a JSON object"), ("[" * 99999, "r.jsonl:2")],
)
def test_a_broken_jsonl_line_is_named(tmp_path, line, said):
    (tmp_path / "r.jsonl").write_text('{"text": "x"}\n' + line + "\n")
    with pytest.raises(BadInput, match=said.replace("[", r"\[")):
        realise(Jsonl(JsonlOptions(path=SpecPath("r.jsonl", tmp_path))), 0)


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "file-missing"), (b"", "file-empty"), (b"a,a\n1,2\n", "bad-header"), (b"\xff\xfe\n", "not-utf-8")],
)
def test_a_file_that_cannot_be_rows_is_a_finding_on_its_path(tmp_path, content, code):
    if content is not None:
        (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(BadOption) as caught:
        Csv(CsvOptions(path=SpecPath("x.csv", tmp_path))).head()
    assert (caught.value.finding.code, caught.value.finding.field) == (code, "path")


@pytest.mark.parametrize(
    ("line", "said"),
    [('{"text": "\\ud83d x"}', "surrogate"), ('{"n": ' + "9" * 5000 + "}", "not readable")],
)
def test_a_jsonl_line_that_python_reads_and_nothing_else_is_broken(tmp_path, line, said):
    (tmp_path / "r.jsonl").write_text('{"text": "x"}\n' + line + "\n")
    with pytest.raises(BadInput, match=said):
        realise(Jsonl(JsonlOptions(path=SpecPath("r.jsonl", tmp_path))), 0)


def test_a_first_row_longer_than_the_head_still_has_columns(tmp_path):
    (tmp_path / "long.jsonl").write_text('{"text": "' + "x" * 100_000 + '"}\n')
    assert Jsonl(JsonlOptions(path=SpecPath("long.jsonl", tmp_path))).head().columns == ("text",)


def test_epochs_that_leave_nothing_are_an_error(csv):
    with pytest.raises(BadOption, match="leaves none of 20 rows") as caught:
        realise(csv(epochs=0.001), 0)
    assert (caught.value.finding.code, caught.value.finding.field) == ("no-rows", "epochs")


def test_a_refused_source_is_named_so_that_it_gets_its_place_in_the_spec(csv):
    sources = [csv(), csv(sample=21)]
    with pytest.raises(BadSource) as caught:
        realise_all(sources, 0)
    assert caught.value.source is sources[1]


def test_two_rows_of_one_id_are_refused(csv):
    class Twice(Csv):
        def rows(self):
            return (replace(row, id="one") for row in super().rows())

    with pytest.raises(BadInput, match=r"rows\.csv:2 and rows\.csv:3 have one id"):
        realise_all([Twice(csv().options)], 0)


def test_ids_differ_when_two_sources_of_other_names_share_one(csv, tmp_path):
    class Keyed(Csv):
        def rows(self):
            return (replace(row, id=row.fields["label"]) for row in super().rows())

    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text,label\nx,one\ny,two\n")
    sources = [Keyed(CsvOptions(path=SpecPath(name, tmp_path))) for name in ("a.csv", "b.csv")]
    ids = [row.id for one in realise_all(sources, 0) for row in one.rows]
    assert ids == ["1/one", "1/two", "2/one", "2/two"]


class Numbered(Csv):
    """Rows by the ids that stand in `label`."""

    def rows(self):
        return (replace(row, id=row.fields["label"]) for row in super().rows())


@pytest.mark.parametrize(
    ("files", "epochs", "copies"),
    [
        ([["1", "1#2"]], 2, ["1##2", "1#2##2"]),
        ([["1", "1#2", "1##2"]], 2, ["1###2", "1#2###2", "1##2###2"]),
        ([["1", "1#3"]], 2, ["1#2", "1#3#2"]),  # no copy would be called as a row: ids stay what they were
        ([["1"], ["1#3"]], 3, ["1##2", "1##3", "1#3##2", "1#3##3"]),
    ],
)
def test_a_copy_is_never_called_as_another_row_is(tmp_path, files, epochs, copies):
    sources = []
    for number, ids in enumerate(files):
        (tmp_path / f"{number}.csv").write_text("text,label\n" + "".join(f"hi {name},{name}\n" for name in ids))
        sources.append(Numbered(CsvOptions(path=SpecPath(f"{number}.csv", tmp_path), epochs=epochs)))
    found = [row for one in realise_all(sources, 0) for row in one.rows]
    own = {name for ids in files for name in ids}
    assert sorted(row.id for row in found) == sorted([*own, *copies])
    assert all(row.id.startswith(row.fields["label"]) for row in found)
    if len(files) == 1:
        assert [row.id for row in realise(sources[0], 0).rows] == [row.id for row in found]


def test_a_copy_is_not_called_as_a_row_that_is_held_back(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"{n},1{'#2' * n}\n" for n in range(6)))
    source = Numbered(CsvOptions(path=SpecPath("rows.csv", tmp_path), epochs=2))
    way = Split(kind="split", fraction=0.5)
    for seed in range(4):
        sides = realise_parts([source], seed, same_in("text"), way)
        ids = [row.id for side in (sides.train, sides.validation) for one in side for row in one.rows]
        assert len(set(ids)) == len(ids) == 9


def test_old_line_ends_are_a_finding(tmp_path):
    (tmp_path / "mac.csv").write_bytes(b"a,b\rx,y\rz,w\r")
    source = Csv(CsvOptions(path=SpecPath("mac.csv", tmp_path)))
    head = source.head()
    assert head.columns == ("a", "b")


def test_a_file_whose_quote_never_closes_says_what_it_swallowed(tmp_path):
    (tmp_path / "q.csv").write_text('text,label\nfine,a\n"open,a\nx,b\ny,b\n')
    found = realise(Csv(CsvOptions(path=SpecPath("q.csv", tmp_path), on_error="set_aside")), 0)
    assert [(broken.origin, "2 lines after it" in broken.why) for broken in found.set_aside] == [("q.csv:3", True)]


def test_a_name_that_the_system_does_not_take_is_a_finding(tmp_path):
    with pytest.raises(BadOption) as caught:
        Csv(CsvOptions(path=SpecPath("x" * 300, tmp_path))).head()
    assert caught.value.finding.code == "file-unreadable"


def test_a_true_of_yaml_finds_the_text_of_a_csv(tmp_path):
    (tmp_path / "b.csv").write_text("text,flag\nx,true\ny,false\n")
    rows = realise(Csv(CsvOptions(path=SpecPath("b.csv", tmp_path), where={"flag": True})), 0).rows
    assert [row.fields["text"] for row in rows] == ["x"]


def test_a_misspelt_value_of_where_is_put_right(csv):
    with pytest.raises(BadOption) as caught:
        realise(csv(where={"text": "mesage 3"}), 0)
    assert caught.value.finding.suggestion == "did you mean `message 3`?"


@pytest.mark.parametrize(("on_error", "refused"), [("stop", True), ("set_aside", False)])
def test_an_open_quote_is_said_at_once_unless_broken_rows_are_set_aside(tmp_path, on_error, refused):
    (tmp_path / "o.csv").write_text('text,queue\na,b\n"open,c\n')
    source = Csv(CsvOptions(path=SpecPath("o.csv", tmp_path), on_error=on_error))
    if refused:
        with pytest.raises(BadOption, match=r"o\.csv:3"):
            source.head()
    else:
        assert source.head().columns == ("text", "queue")
        assert len(realise(source, 0).set_aside) == 1
