"""Each metric of held-out rows grades what it says, several at once, and no option is ignored."""

from __future__ import annotations

import pytest

from tunewright.errors import BadInput
from tunewright.parts import Facts
from tunewright.parts.base import BadOption
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Item
from tunewright.parts.evaluator import TestRow as Row
from tunewright.parts.prompt_format import Example
from tunewright.testing import check_evaluator
from tunewright_basics.heldout import Heldout, HeldoutOptions


def grades(reference, said, *metrics, **options):
    evaluator = Heldout(HeldoutOptions(metrics=list(metrics), **options))
    return evaluator.grade(Item("1", "t:1", [], reference), Completion([], said, "terminator", []))


def test_several_metrics_grade_one_answer():
    found = grades("3 minutes", "About 3 minutes.", "exact_match", "contains", "token_f1", "numeric")
    assert found == {"exact_match": 0, "contains": 1, "token_f1": pytest.approx(0.8), "numeric": 1}


@pytest.mark.parametrize(
    ("options", "said", "expected"),
    [
        ({}, "$1.2m", 1),
        ({}, "1.2", 1),
        ({"scale": "same"}, "1.2", 0),
        ({"scale": "same"}, "1,200,000", 1),
        ({}, "1.25 million", 0),
        ({"tolerance": 0.05}, "1.25 million", 1),
        ({"relative": 0.05}, "1.25 million", 1),
        ({"relative": 0.04}, "1.25 million", 0),
        ({}, "none", 0),
    ],
)
def test_numbers_are_held_to_their_tolerance_and_scale(options, said, expected):
    assert grades("1.2 million", said, "numeric", **options) == {"numeric": expected}


def test_json_is_graded_by_fields_and_validity():
    schema = {"required": ["a", "b"]}
    said = 'Here: {"a": 1}'
    assert grades('{"a": 1, "b": 2}', said, "json_fields", "valid_json") == {
        "json_fields": pytest.approx(2 / 3),
        "valid_json": 1,
    }
    assert grades("{}", said, "valid_json", json_schema=schema) == {"valid_json": 0}
    assert grades('{"a": 1}', "no", "json_fields", "valid_json") == {"json_fields": 0, "valid_json": 0}


def test_refusals_are_held_against_the_references():
    no = "I can't help with that."
    assert grades(no, "I am unable to.", "refusal", "over_refusal") == {"refusal": 1}
    assert grades("Comb it.", no, "refusal", "over_refusal") == {"refusal": 0, "over_refusal": 1}
    assert Heldout(HeldoutOptions(metrics=["refusal", "over_refusal"])).lower_is_better() == {"over_refusal"}


@pytest.mark.parametrize(
    ("option", "value", "metric"),
    [
        ("tolerance", 0.1, "numeric"),
        ("relative", 0.1, "numeric"),
        ("scale", "same", "numeric"),
        ("json_schema", {}, "valid_json"),
    ],
)
def test_an_option_that_no_metric_reads_is_refused(option, value, metric):
    (finding,) = Heldout(HeldoutOptions(**{option: value})).check(Facts())
    assert (finding.code, finding.field) == ("argument-unused", option)
    assert not list(Heldout(HeldoutOptions(metrics=[metric], **{option: value})).check(Facts()))


@pytest.mark.parametrize(("metric", "needs"), [("numeric", "a number"), ("json_fields", "a JSON object")])
def test_a_reference_that_no_answer_could_meet_is_named(metric, needs):
    rows = [Row("1", "t.csv:2", Example("?", "none"))]
    with pytest.raises(BadInput, match=f"t.csv:2: `{metric}` needs {needs}"):
        list(Heldout(HeldoutOptions(metrics=[metric])).items(rows))


@pytest.mark.parametrize("metric", ["contains", "token_f1"])
@pytest.mark.parametrize(("reference", "words"), [("A", False), ("the", False), ("...", False), ("A1", True)])
def test_a_reference_of_articles_and_marks_alone_is_no_answer_in_words(metric, reference, words):
    """As `A` of a question with letters: nothing is in no answer, and an empty answer is all of it."""
    rows = [Row("1", "t.csv:2", Example("?", "four")), Row("2", "t.csv:3", Example("?", reference))]
    asked = Heldout(HeldoutOptions(metrics=[metric]))
    if words:
        assert len(list(asked.items(rows))) == 2
        return
    with pytest.raises(BadInput, match=f"t.csv:3: `{metric}` needs a word that is no article") as told:
        list(asked.items(rows))
    assert told.value.fix == f"mend the row, or leave `{metric}` out of `heldout`"


def test_a_schema_that_is_none_is_refused():
    with pytest.raises(BadOption, match="no JSON schema"):
        list(Heldout(HeldoutOptions(metrics=["valid_json"], json_schema={"type": "objekt"})).items([]))


def test_a_schema_that_refers_to_elsewhere_is_refused_before_any_answer():
    options = HeldoutOptions(metrics=["valid_json"], json_schema={"$ref": "https://example.invalid/schema.json"})
    with pytest.raises(BadOption, match=r"leads to nothing within it, and nothing is fetched") as refused:
        list(Heldout(options).items([]))
    assert refused.value.finding.field == "json_schema"


METRICS = ["exact_match", "macro_f1", "contains", "token_f1", "numeric", "json_fields", "valid_json", "refusal"]
METRICS.append("over_refusal")


def test_it_keeps_its_contract_with_every_metric(tmp_path):
    rows = [{"text": f"how many {what}?", "label": '{"n": 100}'} for what in ("cats", "dogs", "cows", "hens")]
    answers = ['{"n": 101}', '{"n": 105}', "100 million", "I can't say."]
    check_evaluator(Heldout, {"metrics": METRICS}, rows=rows, answers=answers, folder=tmp_path)
