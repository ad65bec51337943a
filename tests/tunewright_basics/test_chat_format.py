"""Braces are columns and nothing else."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunewright.errors import BadInput
from tunewright_basics.chat import Chat, ChatOptions


def chat(**options):
    return Chat(ChatOptions(**{"prompt": "{text}", "completion": "{label}", **options}))


def test_columns_are_filled_in():
    example = chat(system="Route for {firm}.").example({"text": "hi", "label": "x", "firm": "Acme"})
    assert [m["content"] for m in example.prompt] == ["Route for Acme.", "hi"]
    assert example.answer == "x"


def test_a_doubled_brace_is_literal_and_a_value_is_never_a_template():
    assert chat(prompt="{{json}} {text}").prompt({"text": "{label}"})[-1]["content"] == "{json} {label}"


@pytest.mark.parametrize("template", ["{text.__class__}", "{0}x{", "{}", "{text!r}", "{text:>9}", "}"])
def test_a_brace_that_is_not_a_plain_column_is_refused_or_only_a_name(template):
    try:
        columns = chat(prompt=template).columns()
    except ValidationError as error:
        assert "brace" in str(error) or "expected" in str(error) or "encountered" in str(error)
    else:
        assert "text.__class__" in columns  # a column of that name, never an attribute


def test_every_column_names_the_field_that_reads_it():
    assert chat(system="{a}").columns() == {"a": "system", "text": "prompt", "label": "completion"}
    assert chat(system="{a}").prompt_columns() == {"a", "text"}


def test_a_row_without_a_value_is_named():
    with pytest.raises(BadInput, match="`label`"):
        chat().example({"text": "x", "label": None})
