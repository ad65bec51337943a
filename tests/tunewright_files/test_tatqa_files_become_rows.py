"""TAT-QA as it is published: a row a question, with its document's table and texts, grouped by document."""

from __future__ import annotations

import json

import pytest

from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption
from tunewright.parts.data_source import Broken, Row
from tunewright.testing import check_data_source
from tunewright_files.tatqa import TatQa, TatQaOptions


def question(kind, answer, scale="", **changes):
    return {
        "uid": f"q {answer}", "order": 1, "question": f"Which {kind}?", "answer": answer, "derivation": "",
        "answer_type": kind, "answer_from": "table", "rel_paragraphs": [], "req_comparison": False, "scale": scale,
        **changes,
    }  # fmt: skip


def document(name, *questions, **changes):
    return {
        "table": {"uid": name, "table": [["", "2031", "2030"], ["Lamps\nsold", "$ 12.5", ""]]},
        "paragraphs": [
            {"uid": "p2", "order": 2, "text": "Figures in millions."},
            {"uid": "p1", "order": 1, "text": "We sell lamps."},
        ],
        "questions": list(questions),
        **changes,
    }


DOCUMENTS = [
    document(
        "d1",
        question("span", ["$ 12.5"], "million"),
        question("multi-span", ["2031", "2030"]),
        question("arithmetic", -12.6, "percent", derivation="(1-2)/2"),
        question("count", "2"),
    ),
    document("d2", question("span", ["lamps"])),
]


@pytest.fixture
def source(tmp_path):
    def made(documents=DOCUMENTS, **options):
        text = documents if isinstance(documents, str) else json.dumps(documents, indent=1)
        (tmp_path / "tatqa.json").write_text(text)
        return TatQa(TatQaOptions(path=SpecPath("tatqa.json", tmp_path), **options))

    return made


def only_broken(found):
    return [tuple(row) for row in found.rows() if isinstance(row, Broken)]


def test_a_question_is_a_row_with_its_document(source):
    rows = list(source().rows())
    assert rows[2].fields == {
        "document": "d1",
        "context": " | 2031 | 2030\nLamps sold | $ 12.5 |\n\nWe sell lamps.\nFigures in millions.".strip(),
        "question": "Which arithmetic?", "answer": "-12.6", "answer_text": "-12.6 percent",
        "answer_type": "arithmetic", "answer_from": "table", "scale": "percent", "derivation": "(1-2)/2",
    }  # fmt: skip
    assert rows[2].origin == "tatqa.json: item 1, question 3"
    assert [row.fields["answer_text"] for row in rows] == [
        "$ 12.5 million",
        "2031; 2030",
        "-12.6 percent",
        "2",
        "lamps",
    ]
    assert [row.fields["answer"] for row in rows[:2]] == [["$ 12.5"], ["2031", "2030"]]
    assert source().head() == (tuple(rows[0].fields), tuple(row.fields for row in rows))


def test_questions_on_one_document_are_one_group(source):
    assert [row.group for row in source().rows()] == ["d1"] * 4 + ["d2"]


@pytest.mark.parametrize(("types", "count"), [(["span"], 2), (["arithmetic", "count"], 2), (["multi-span"], 1)])
def test_questions_are_chosen_by_what_answers_them(source, types, count):
    found = source(answer_types=types)
    assert [row["answer_type"] in types for row in found.head().rows] == [True] * count
    assert len(list(found.rows())) == count


def test_an_unanswered_question_is_broken_and_the_others_are_read(source):
    documents = [document("d1", question("span", [""]), question("span", ["lamps"]), question("count", None))]
    rows = list(source(documents).rows())
    assert [row.origin.rpartition(" ")[2] for row in rows if isinstance(row, Broken)] == ["1", "3"]
    assert [row.fields["answer"] for row in rows if isinstance(row, Row)] == [["lamps"]]
    assert source(documents, on_error="set_aside").head().rows[0]["answer"] == ["lamps"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (document("d1", question("guess", "2")), "`answer_type` is 'guess'"),
        (document("d1", question("count", "2", "dozens")), "`scale` is 'dozens'"),
        (document("d1", question("arithmetic", True)), "should be a number"),
        (document("d1", question("count", "2", question="")), "`question` should be a text"),
        (document("d1", "text"), "a JSON object with `answer_type`"),
        (document("d1", question("count", "2"), table=[["2031"]]), "a JSON object with `uid`"),
        (document("d1", question("count", "2"), table={"uid": "d1", "table": "2031"}), "a list of rows"),
        (document("d1", question("count", "2"), table={"uid": "d1", "table": [[["2031"]]]}), "a list of cells"),
        (document("d1", question("count", "2"), paragraphs=[{"text": "x"}]), "it has no `order`"),
        (document("d1", question("count", "2"), questions={}), "`questions` should be a list"),
    ],
)
def test_a_document_of_another_shape_is_named(source, wrong, says):
    ((origin, why),) = only_broken(source([DOCUMENTS[1], wrong]))
    assert origin.startswith("tatqa.json: item 2")
    assert says in why


@pytest.mark.parametrize(
    ("documents", "options", "code", "says"),
    [
        ({"data": []}, {}, "bad-json", "the documents of TAT-QA are a list"),
        ([{"text": "where is my parcel"}], {}, "bad-json", "it has no `table`"),
        ([DOCUMENTS[1]], {"answer_types": ["count"]}, "no-rows", "no question of type count"),
        ("[{]", {}, "bad-json", "tatqa.json"),
    ],
)
def test_another_file_is_told_what_a_document_has(source, documents, options, code, says):
    with pytest.raises(BadOption) as caught:
        source(documents, **options).head()
    assert caught.value.finding.code == code
    assert says in str(caught.value)


def test_tatqa_keeps_its_contract(tmp_path, source):
    source()
    check_data_source(TatQa, {"path": tmp_path / "tatqa.json"}, folder=tmp_path / "kit")
