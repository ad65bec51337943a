"""Files as they are published: PubMedQA by its ids, TAT-QA as a list of documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright.parts import SpecPath
from tunewright_files.json import JsonFile, JsonOptions

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.is_dir(), reason="the folder with the public data sets is not beside this checkout"),
]


def rows(name, **options):
    source = JsonFile(JsonOptions(path=SpecPath(name, DATA), **options))
    head, found = source.head(), list(source.rows())
    assert list(head.rows) == [row.fields for row in found[: len(head.rows)]]
    return head, found


def test_pubmedqa_by_its_ids():
    head, found = rows("medical-pubmedqa/ori_pqal.json", key="pubid")
    whole = json.loads((DATA / "medical-pubmedqa/ori_pqal.json").read_text("utf-8"))
    assert [dict(row.fields) for row in found] == [{"pubid": key, **value} for key, value in whole.items()]
    assert found[0].origin == "ori_pqal.json: 21645374"
    assert {"pubid", "QUESTION", "CONTEXTS", "final_decision"} <= set(head.columns)
    assert len(found) == 1000
    assert len(head.rows) > 10


def test_tatqa_as_a_list_of_documents():
    head, found = rows("finance-tatqa/tatqa_dataset_dev.json")
    assert [dict(row.fields) for row in found] == json.loads(
        (DATA / "finance-tatqa/tatqa_dataset_dev.json").read_text()
    )
    assert head.columns == ("table", "paragraphs", "questions")
