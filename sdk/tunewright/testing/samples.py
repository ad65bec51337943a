"""What the kit feeds to backends where nothing else is given: rows of an invented help desk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.parts.evaluator import TestRow
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import Example

Fields = Mapping[str, Any]

ROWS: Sequence[Fields] = (
    {"text": "where is my parcel", "label": "delivery"},
    {"text": "the card was declined at the shop", "label": "billing"},
    {"text": "my parcel is late again", "label": "delivery"},
    {"text": "I cannot sign in: äöü – “quoted”", "label": "account"},
    {"text": "please send the invoice of May", "label": "billing"},
    {"text": "the password link is broken", "label": "account"},
)
"""Rows with a `text` and a `label`."""


def example(fields: Fields) -> Example:
    """A row as a question and its answer."""
    return Example(question(fields), [{"role": "assistant", "content": str(fields["label"])}])


def question(fields: Fields) -> list[Message]:
    """A row as a question."""
    return [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": str(fields["text"])},
    ]


def held_out(rows: Sequence[Fields]) -> list[TestRow]:
    """Rows as an evaluator gets them."""
    return [
        TestRow(f"kit.csv:{number}", f"kit.csv:{number}", example(fields), fields=fields)
        for number, fields in enumerate(rows, 2)
    ]
