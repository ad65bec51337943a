"""A folder of `save_to_disk` gives the rows that `load_from_disk` gives, without the library `datasets`."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from tunewright.errors import MissingExtra
from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption
from tunewright.testing import check_data_source
from tunewright_files.datasets import DatasetsFolder, DatasetsOptions

datasets = pytest.importorskip("datasets")

ROWS = {
    "text": [f"café ☕ {number}" for number in range(150)],
    "spans": [[{"at": number, "of": ["a", "b"]}] for number in range(150)],
    "label": [number % 2 for number in range(150)],
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """`one`, a dataset of two files; `faq`, one with splits; `picked`, a shuffled selection; `none`, without rows."""
    folder = tmp_path_factory.mktemp("saved")
    features = datasets.Features({
        "text": datasets.Value("string"),
        "spans": [{"at": datasets.Value("int64"), "of": [datasets.Value("string")]}],
        "label": datasets.ClassLabel(names=["no", "yes"]),
    })  # fmt: skip
    whole = datasets.Dataset.from_dict(ROWS, features=features)
    whole.save_to_disk(folder / "one", num_shards=2)
    datasets.DatasetDict({"train": whole, "test": whole.select(range(3))}).save_to_disk(folder / "faq")
    whole.shuffle(seed=1).select(range(20)).save_to_disk(folder / "picked")
    whole.select([]).save_to_disk(folder / "none")
    return folder


def source(folder, written, **options):
    return DatasetsFolder(DatasetsOptions(path=SpecPath(written, folder), **options))


def fields(source):
    return [dict(row.fields) for row in source.rows()]


def refusal(call):
    with pytest.raises(BadOption) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(("written", "options"), [("one", {}), ("picked", {}), ("faq", {"split": "test"})])
def test_the_rows_are_those_of_load_from_disk(saved, written, options):
    theirs = datasets.load_from_disk(saved / written / options.get("split", ""))
    made = source(saved, written, **options)
    assert fields(made) == list(theirs)
    head = made.head()
    assert list(head.columns) == theirs.column_names
    assert list(head.rows) == list(theirs)[: len(head.rows)]


def test_rows_are_counted_over_all_files(saved):
    rows = list(source(saved, "one").rows())
    assert [row.origin for row in rows][::149] == ["one: row 1", "one: row 150"]
    assert next(source(saved, "faq", split="test").rows()).id == "faq/test: row 1"


def test_the_library_datasets_is_not_imported(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert len(fields(source(saved, "one"))) == 150


def test_the_digest_is_of_the_rows_files_and_not_of_the_saving(saved, tmp_path):
    shutil.copytree(saved / "one", tmp_path / "one")
    state = json.loads((tmp_path / "one/state.json").read_text())
    (tmp_path / "one/state.json").write_text(json.dumps({**state, "_fingerprint": "another"}))
    assert source(tmp_path, "one").digest() == source(saved, "one").digest() != source(saved, "picked").digest()
    (tmp_path / "one/state.json").write_text(json.dumps({**state, "_data_files": state["_data_files"][:1]}))
    assert source(tmp_path, "one").digest() != source(saved, "one").digest()


@pytest.mark.parametrize(
    ("written", "options", "code", "field", "says"),
    [
        ("nowhere", {}, "file-missing", "path", "no folder `nowhere`"),
        ("faq", {}, "bad-value", "path", "say which: `split: train`"),
        ("faq", {"split": "tset"}, "bad-value", "split", "did you mean `test`"),
        ("one", {"split": "train"}, "bad-value", "split", "leave `split` out"),
        ("none", {}, "no-rows", "path", "`none` holds no rows"),
        (".", {}, "file-unreadable", "path", "save_to_disk"),
        ("one/state.json", {}, "file-unreadable", "path", "save_to_disk"),
    ],
)
def test_what_is_no_saved_dataset_says_what_to_write(saved, written, options, code, field, says):
    made = source(saved, written, **options)
    for call in (made.head, made.digest, lambda: list(made.rows())):
        found = refusal(call)
        assert (found.finding.code, found.finding.field) == (code, field)
        assert says in str(found)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (b"{", "not a JSON object"),
        (b"\xff", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"{}", "names no files"),
        (b'{"_data_files": 7}', "names no files"),
        (b'{"_data_files": [{"filename": "../../secret.arrow"}]}', "names no files"),
        (b'{"_data_files": [{"filename": 7}]}', "names no files"),
        (b'{"_data_files": [{"filename": "gone.arrow"}]}', "there is no file `one/gone.arrow`"),
        (b'{"_data_files": [{"filename": "data.arrow"}], "_indices_data_files": [{}]}', "an old release"),
    ],
)
def test_a_state_that_names_no_files_of_this_folder_is_refused(saved, tmp_path, state, says):
    shutil.copytree(saved / "one", tmp_path / "one")
    (tmp_path / "one/state.json").write_bytes(state)
    assert says in str(refusal(source(tmp_path, "one").head))


def test_splits_that_are_none_are_refused(saved, tmp_path):
    shutil.copytree(saved / "faq", tmp_path / "faq")
    for content in (b"{}", b'{"splits": "train"}', b'{"splits": [7]}', b'{"splits": ["../faq/train"]}', b"["):
        (tmp_path / "faq/dataset_dict.json").write_bytes(content)
        assert "save the dataset again" in str(refusal(source(tmp_path, "faq", split="train").head))


def test_a_file_of_rows_cut_short_or_damaged_is_never_a_traceback(saved, tmp_path):
    shutil.copytree(saved / "picked", tmp_path / "picked")
    file = next((tmp_path / "picked").glob("*.arrow"))
    whole = file.read_bytes()
    lost = 0
    for place in range(0, len(whole), 97):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            file.write_bytes(damaged)
            for call in (source(tmp_path, "picked").head, lambda: list(source(tmp_path, "picked").rows())):
                try:
                    call()
                except BadOption as error:
                    lost += error.finding.field == "path"
    assert lost > 20


def test_without_pyarrow_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"tunewright\[train\]"):
        source(saved, "one").head()


@pytest.mark.parametrize(("written", "options"), [("one", {}), ("faq", {"split": "test"})])
def test_it_keeps_its_contract(saved, tmp_path, written, options):
    check_data_source(DatasetsFolder, {"path": saved / written, **options}, folder=tmp_path / "kit")
