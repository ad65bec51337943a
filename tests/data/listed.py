"""A source whose rows are given in the test, and a format that reads the columns that the test names."""

from __future__ import annotations

from typing import Any

from tunewright.data.same import Sameness
from tunewright.digest import canonical_json, digest_json
from tunewright.parts import DataSource, Options, PromptFormat
from tunewright.parts.base import Head
from tunewright.parts.data_source import Row, SourceOptions
from tunewright.parts.prompt_format import Example


class Listed(DataSource[SourceOptions]):
    """Rows from memory, `NAME:1` and so on."""

    kind, Options = "listed", SourceOptions

    def __init__(self, fields: list[dict[str, Any]], called: str = "listed", **options: Any) -> None:
        super().__init__(SourceOptions(kind="listed", **options))
        self.fields, self.called = fields, called

    @property
    def name(self) -> str:
        return self.called

    def head(self) -> Head:
        return Head(tuple(self.fields[0]), tuple(self.fields))

    def digest(self) -> str:
        return digest_json(self.fields)

    def rows(self):
        return iter(rows_of(self.fields, self.called))


def rows_of(fields: list[dict[str, Any]], name: str = "listed") -> list[Row]:
    """Rows of these fields."""
    return [Row(f"{name}:{n}", f"{name}:{n}", one) for n, one in enumerate(fields, 1)]


def numbered(count: int, name: str = "listed", **options: Any) -> Listed:
    """A source of so many rows, all different."""
    return Listed([{"text": f"{name} {n}"} for n in range(count)], name, **options)


class ColumnsOptions(Options):
    """The columns that are read."""

    kind: str = "columns"
    read: list[str]


class Columns(PromptFormat[ColumnsOptions]):
    """A text of the columns that a row has of these."""

    kind, Options, makes = "columns", ColumnsOptions, "text"

    def columns(self):
        return dict.fromkeys(self.options.read, "read")

    def prompt_columns(self):
        return frozenset(self.options.read)

    def prompt(self, fields):
        return canonical_json({name: fields[name] for name in self.options.read if name in fields}).decode()

    def example(self, fields):
        return Example("", self.prompt(fields))


def same_in(*columns: str) -> Sameness:
    """By which rows are one that hold the same in these columns."""
    return Sameness((Columns(ColumnsOptions(read=list(columns))),))
