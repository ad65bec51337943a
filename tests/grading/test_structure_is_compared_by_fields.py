"""JSON is found in an answer, held against its schema and compared field by field."""

from __future__ import annotations

import pytest
from referencing.exceptions import Unresolvable

from tunewright.grading.structure import field_f1, find_object, is_valid, names, names_f1, schema_fault

SCHEMA = {
    "type": "object",
    "properties": {"days": {"type": ["number", "null"]}, "who": {"enum": ["a", "b"]}},
    "required": ["days", "who"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure:\n```json\n{"a": 1}\n```\nor {"b": 2}', {"a": 1}),
        ('{x} is set: {"a": {"b": 2}} and {"c": 3}', {"a": {"b": 2}}),
        ('{"a": {"b": 2}', None),  # what is within an unfinished object is another answer
        ('{"a": NaN}', None),
        ("[1, 2]", None),
        ("{" * 5000, None),
        ("", None),
    ],
)
def test_the_first_object_is_found(answer, expected):
    assert find_object(answer) == expected


def test_a_schema_is_kept_or_not():
    assert is_valid({"days": None, "who": "a"}, SCHEMA)
    assert not is_valid({"days": None, "who": "c"}, SCHEMA)
    assert not is_valid({"days": 1, "who": "a", "more": 1}, SCHEMA)


def test_a_schema_is_never_fetched(monkeypatch):
    asked = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *given, **more: asked.append(given))
    with pytest.raises(Unresolvable):
        is_valid({}, {"$ref": "https://example.invalid/schema.json"})
    assert not asked


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "https://example.invalid/schema.json"}, "'https://example.invalid/schema.json' leads to nothing"),
        ({"properties": {"a": {"items": {"$ref": "#/$defs/b"}}}}, "'#/$defs/b' leads to nothing"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"$ref": "other.json"}}}, "'other.json'"),
        ({"properties": {"a": {"$ref": "#/properties/a"}}}, "'#/properties/a' leads back to itself"),
        ({"$ref": "http://["}, "'http://['"),
        ({"properties": {"a": {"pattern": "("}}}, "is not a 'regex'"),
    ],
)
def test_a_schema_that_cannot_be_followed_has_a_fault(schema, said):
    assert said in schema_fault(schema)


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMA,
        {"$defs": {"tree": {"properties": {"left": {"$ref": "#/$defs/tree"}}}}, "$ref": "#/$defs/tree"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"b": {}}, "not": {"$ref": "#"}},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"$id": "https://example.invalid/a", "$defs": {"b": {"$anchor": "b"}}, "items": {"$ref": "#b"}},
        {"const": {"$ref": "nowhere"}, "properties": {"$ref": {"type": "string"}}},
    ],
)
def test_a_schema_that_holds_all_it_refers_to_is_sound(schema):
    assert schema_fault(schema) is None
    if "not" not in schema:
        is_valid({"left": {"left": {}}, "$ref": "x"}, schema)


@pytest.mark.parametrize(
    ("said", "wanted", "expected"),
    [
        ({"a": 1, "b": "X  y"}, {"a": 1.0, "b": "x y"}, 1.0),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, 0.5),
        ({"a": 1}, {"a": 1, "b": 3}, 2 / 3),
        ({"a": 1, "c": 1, "b": 3}, {"a": 1, "b": 3}, 0.8),
        ({"a": True}, {"a": 1}, 0.0),
        ({"a": "1"}, {"a": 1}, 0.0),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, 1.0),
        ({"a": ["x", "x"]}, {"a": ["x"]}, 2 / 3),
        ({"a": [{"n": 1}, {"n": 2}]}, {"a": [{"n": 2}, {"n": 1}]}, 0.0),
        ({"a": []}, {"a": []}, 1.0),
        ({}, {"a": 1}, 0.0),
        ({"a": None}, {"a": None}, 1.0),
    ],
)
def test_field_f1_by_hand(said, wanted, expected):
    assert field_f1(said, wanted) == pytest.approx(expected)


def test_names_are_read_from_any_list():
    expected = {"serial_number", "model"}
    for text in (
        "serial_number, model",
        "- Serial number\n- model.",
        '["model", "serial_number"]',
        "Model and serial-number",
    ):
        assert names(text) == expected
    assert names(" ") == frozenset()


def test_names_f1_by_hand():
    assert names_f1(names("model, firmware"), ["model", "serial_number", "firmware"]) == pytest.approx(0.8)
    assert names_f1([], ["model"]) == 0
    assert names_f1([], []) == 1
