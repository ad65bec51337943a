"""Texts with a row's columns in braces, and the one place where a row's value becomes text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from tunewright.errors import BadInput
from tunewright.parts import PromptFormat
from tunewright.parts.base import Head
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import Text

LEAVE_OUT = "mend the row or leave it out"
NO_TEXT = "name a column of texts; lists of turns are for `openai`, `sharegpt` and `ultrafeedback`"


def columns_of(template: str) -> Iterator[str]:
    """The columns that a text names. Raises `ValueError` where a brace is open or holds more than a column's name."""
    for _, name, spec, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name or spec or conversion:
            raise ValueError("braces hold one column's name, as in {text}; a literal brace is {{ or }}")
        yield name


def _braces(value: str) -> str:
    list(columns_of(value))
    return value


def _says_something_of_the_row(value: str) -> str:
    if not list(columns_of(value)):
        raise ValueError("names no column, so that every row would read the same: put one in braces, as in {text}")
    return value


AnyTemplate = Annotated[str, AfterValidator(_braces)]
"""A text in which `{column}` substitutes; it may name none."""
Template = Annotated[str, AfterValidator(_says_something_of_the_row)]
"""A text that names at least one column in braces."""
Column = Annotated[str, Field(min_length=1)]


def fields_by_column(options: Any, names: Iterable[str]) -> dict[str, str]:
    """Column → the option that names it, of options that hold templates; of two that name one column, the last."""
    return {column: name for name in names for column in columns_of(getattr(options, name) or "")}


def columns_in(*templates: str | None) -> frozenset[str]:
    """The columns that any of these texts names."""
    return frozenset(column for template in templates for column in columns_of(template or ""))


def fill(template: str, fields: Mapping[str, Any]) -> str:
    """`str.format` would reach into attributes; here a brace is a column and nothing else."""
    parts = []
    for text, name, _, _ in Formatter().parse(template):
        parts.append(text)
        if name is not None:
            parts.append(value_of(fields, name))
    return "".join(parts)


def fill_some(template: str, fields: Mapping[str, Any], option: str) -> str:
    """As `fill`. Raises `BadInput` where nothing but white space comes of it."""
    filled = fill(template, fields)
    if not filled.strip():
        raise BadInput(f"`{option}` is empty in this row", fix=LEAVE_OUT)
    return filled


def value_of(fields: Mapping[str, Any], column: str) -> str:
    """A row's value as text; a list of texts is a text of lines. Raises `BadInput` where there is none."""
    value = fields.get(column)
    if value is None:
        raise BadInput(f"the row has no value in column `{column}`")
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    if isinstance(value, (list, dict)):
        shape = "a list" if isinstance(value, list) else "an object"
        raise BadInput(f"column `{column}` holds {shape}, which is no text", fix=NO_TEXT)
    return str(value)


def text_of(fields: Mapping[str, Any], column: str) -> str:
    """As `value_of`. Raises `BadInput` where nothing but white space is there."""
    text = value_of(fields, column)
    if not text.strip():
        raise BadInput(f"the row has no text in column `{column}`", fix=LEAVE_OUT)
    return text


def asked(system: str | None, question: str) -> list[Message]:
    """A conversation up to its first answer."""
    opening = [] if system is None else [{"role": "system", "content": system}]
    return [*opening, {"role": "user", "content": question}]


def answer(text: str, *, plain: bool = False) -> Text:
    """A completion: one message of the assistant, or plain text."""
    return text if plain else [{"role": "assistant", "content": text}]


def in_braces(column: str) -> str:
    """A template of one column, as YAML writes it; empty where no template can name the column."""
    try:
        return json.dumps(f"{{{column}}}", ensure_ascii=False) if list(columns_of(f"{{{column}}}")) == [column] else ""
    except ValueError:
        return ""


def first(head: Head, column: str) -> Any:
    """A column's first value that is there, of a source's first rows."""
    return next((row[column] for row in head.rows if row.get(column) is not None), None)


def works(form: PromptFormat[Any], head: Head) -> bool:
    """Whether a format makes an example of any of a source's first rows; of columns without rows no more is known."""
    return not head.rows or any(_takes(form, row) for row in head.rows)


def _takes(form: PromptFormat[Any], row: Mapping[str, Any]) -> bool:
    try:
        form.example(row)
    except BadInput:
        return False
    return True
