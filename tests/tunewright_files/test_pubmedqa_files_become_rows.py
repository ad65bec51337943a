"""PubMedQA as it is published: its entries, the official test ids or all others, and what is wrong with a file."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption
from tunewright.parts.data_source import Broken
from tunewright.testing import check_data_source
from tunewright_files.pubmedqa import PubMedQa, PubMedQaOptions


def entry(label, number=1, **changes):
    return {
        "QUESTION": f"Does tea {number} help?", "CONTEXTS": ["Forty drank tea.", "Twenty did not."],
        "LABELS": ["METHODS", "RESULTS"], "YEAR": "2011", "final_decision": label,
        "LONG_ANSWER": "It may.", **changes,
    }  # fmt: skip


ENTRIES = {"101": entry("yes"), "102": entry("no", 2), "103": entry("maybe", 3), "104": entry("yes", 4)}
IDS = {"102": "no", "104": "yes"}


@pytest.fixture
def source(tmp_path):
    def made(entries=ENTRIES, ids=None, **options):
        for name, found in (("pqal.json", entries), ("ids.json", ids)):
            (tmp_path / name).write_text(found if isinstance(found, str) else json.dumps(found, indent=1))
        named = {} if ids is None else {"ids": SpecPath("ids.json", tmp_path)}
        return PubMedQa(PubMedQaOptions(path=SpecPath("pqal.json", tmp_path), **named, **options))

    return made


def refusal(call):
    with pytest.raises(BadOption) as caught:
        call()
    return caught.value


def ids_of(found):
    return [row.fields["pubid"] for row in found.rows()]


def test_an_entry_is_a_row_of_its_question_abstract_and_label(source):
    rows = list(source().rows())
    assert rows[0].fields == {
        "pubid": "101", "question": "Does tea 1 help?", "context": "Forty drank tea.\nTwenty did not.",
        "label": "yes", "long_answer": "It may.",
    }  # fmt: skip
    assert [(row.id, row.origin, row.group) for row in rows[:1]] == [("pqal.json: 101", "pqal.json: 101", None)]
    assert source().head() == (tuple(rows[0].fields), tuple(row.fields for row in rows))


def test_the_test_ids_and_the_rest_are_all_entries_and_none_is_in_both(source):
    assert ids_of(source(ids=IDS, part="test")) == ["102", "104"]
    assert ids_of(source(ids=IDS, part="rest")) == ["101", "103"]
    assert source(ids=IDS, part="rest").head().rows[1]["pubid"] == "103"


def test_other_ids_are_other_data(source):
    one, other = (source(ids=ids, part="test").digest() for ids in (IDS, {"102": "no"}))
    assert len({one, other, source().digest()}) == 3


def test_ids_of_another_file_are_refused_rather_than_missing(source):
    """Else `rest` would quietly learn what `test` claims are made on."""
    for part in ("test", "rest"):
        found = refusal(lambda part=part: list(source(ids={**IDS, "999": "yes", "998": "no"}, part=part).rows()))
        assert (found.finding.code, found.finding.field) == ("value-never-occurs", "ids")
        assert "`pqal.json` has no entry `999` and 1 more" in str(found)


def test_a_label_that_the_ids_contradict_is_a_broken_row(source):
    rows = list(source(ids={"102": "yes", "104": "yes"}, part="test").rows())
    assert isinstance(rows[0], Broken)
    assert "`final_decision` is `no`, and `ids` says `yes`" in rows[0].why


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"final_decision": "perhaps"}, "`final_decision` is 'perhaps'"),
        ({"CONTEXTS": []}, "`CONTEXTS` should be a list of texts"),
        ({"CONTEXTS": "one text"}, "`CONTEXTS` should be a list of texts"),
        ({"QUESTION": " "}, "`QUESTION` should be a text"),
        ({"LONG_ANSWER": 7}, "`LONG_ANSWER` should be a text"),
    ],
)
def test_an_entry_of_another_shape_is_named(source, wrong, says):
    entries = {**ENTRIES, "102": entry("no", **wrong)}
    (found,) = (row for row in source(entries).rows() if isinstance(row, Broken))
    assert found.origin == "pqal.json: 102"
    assert says in found.why


def test_an_unlabelled_file_and_a_list_are_told_what_an_entry_has(source):
    unlabelled = {key: {k: v for k, v in one.items() if k != "final_decision"} for key, one in ENTRIES.items()}
    for entries, says in ((unlabelled, "pqal.json: 101: it has no `final_decision`"), ([], "an object, by their ids")):
        found = refusal(source(entries).head)
        assert found.finding.code == "bad-json"
        assert says in str(found)
        assert "kind: json" in found.finding.suggestion


def test_an_id_that_stands_twice_is_broken(source):
    twice = json.dumps(ENTRIES)[:-1] + f', "101": {json.dumps(entry("no"))}}}'
    assert [row.why for row in source(twice).rows() if isinstance(row, Broken)] == [
        "the id stands in the file a second time"
    ]


@pytest.mark.parametrize(
    ("ids", "code", "says"),
    [
        ({"102": "nope"}, "bad-json", "ids.json:2: `102` should be one of yes, no, maybe"),
        (["102"], "bad-json", "ids.json:1"),
        ({}, "no-rows", "names no id"),
        ({str(n): "yes" for n in range(9_000)}, "bad-json", "more than 64 KiB"),
        ("", "file-empty", "is empty"),
    ],
)
def test_what_is_wrong_with_the_ids_stands_at_the_ids(source, ids, code, says):
    found = refusal(source(ids=ids, part="test").head)
    assert (found.finding.code, found.finding.field) == (code, "ids")
    assert says in str(found)


def test_ids_without_a_part_and_a_part_without_ids_are_refused(source):
    with pytest.raises(ValidationError, match="part"):
        source(ids=IDS)
    with pytest.raises(ValidationError, match="name it, as in"):
        source(part="test")


def test_pubmedqa_keeps_its_contract(tmp_path, source):
    source(ids=IDS, part="test")
    options = {"path": tmp_path / "pqal.json", "ids": tmp_path / "ids.json", "part": "test"}
    check_data_source(PubMedQa, options, folder=tmp_path / "kit")
