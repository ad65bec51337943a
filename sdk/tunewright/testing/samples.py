"""What the kit feeds to backends where nothing else is given: rows of an invented help desk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

from tunewright.parts.evaluator import TestRow
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import AnyExample, Example, Feedback, Preference, RowKind

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


@overload
def example(fields: Fields, kind: Literal["messages", "completion", "text"] = "messages") -> Example: ...
@overload
def example(fields: Fields, kind: RowKind) -> AnyExample: ...
def example(fields: Fields, kind: RowKind = "messages") -> AnyExample:
    """A row as an example of any kind: a question and its answer, a text, the right label against another one."""
    text, label, other = str(fields["text"]), str(fields["label"]), _another(fields)
    if kind == "completion":
        return Example(f"{text} →", f" {label}")
    if kind == "text":
        return Example("", f"{text}: {label}")
    if kind == "preference":
        return Preference(question(fields), _said(label), _said(other))
    if kind == "feedback":
        wanted = len(text) % 2 == 0  # some of each
        return Feedback(question(fields), _said(label if wanted else other), wanted)
    return Example(question(fields), _said(label))


def _another(fields: Fields) -> str:
    """A wrong label: the next one of the sample."""
    labels = sorted({str(row["label"]) for row in ROWS})
    label = str(fields["label"])
    return labels[(labels.index(label) + 1) % len(labels)] if label in labels else f"not {label}"


def _said(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def question(fields: Fields) -> list[Message]:
    """A row as a question."""
    return [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": str(fields["text"])},
    ]


def held_out(rows: Sequence[Fields], kind: RowKind = "messages") -> list[TestRow]:
    """Rows as an evaluator gets them."""
    return [
        TestRow(f"kit.csv:{number}", f"kit.csv:{number}", example(fields, kind), fields=fields)
        for number, fields in enumerate(rows, 2)
    ]
