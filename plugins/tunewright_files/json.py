"""`json`: one file that is a list of objects, or an object that holds them, UTF-8. Read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.parts.base import BadOption
from tunewright.parts.data_source import Broken, Row
from tunewright.spec.suggest import did_you_mean
from tunewright_files.file import HEAD_BYTES, FileOptions
from tunewright_files.stream import Cut, JsonText
from tunewright_files.streamed import StreamedJson
from tunewright_files.values import row_of


class JsonOptions(FileOptions):
    """Options of a json source."""

    kind: str = "json"
    rows: Annotated[
        str | None,
        Field(description="The key under which the rows stand, where the file is one object that holds them."),
    ] = None
    key: Annotated[
        str | None,
        Field(
            min_length=1, description="The rows are an object's values, by their keys: the column that holds the key."
        ),
    ] = None


class JsonFile(StreamedJson):
    """Rows of a list (`rows.json: item 17`, counted from 1), or of an object by key (`rows.json: 21645374`)."""

    kind = "json"
    Options: ClassVar = JsonOptions
    options: JsonOptions
    reads = frozenset({"path", "rows", "key"})

    def pieces(self, text: JsonText) -> Iterator[Row | Broken]:
        if self.options.rows is None:
            yield from self._rows(text)
        else:
            yield from self._below(text, self.options.rows)
        text.finish()

    def _to_shorten(self) -> str:
        name = self.options.rows
        cut_out = f"write the rows to a file of their own: jq '.{name}' {self.name} > rows.json"
        return cut_out if name else super()._to_shorten()

    def _below(self, text: JsonText, wanted: str) -> Iterator[Row | Broken]:
        """Rows under one key of the object that is the file."""
        if text.peek() != "{":
            text.refuse("the file is no object, so it has no keys", "bad-value", "rows", "leave `rows` out")
        keys = []
        for key in text.members():
            if key == wanted and key in keys:
                text.refuse(f"the key `{key}` stands here a second time")
            keys.append(key)
            if key == wanted:
                yield from self._rows(text)
            else:
                text.skip()
        if wanted not in keys:
            message = f"`{self.name}` has no key `{wanted}`"
            raise BadOption("bad-value", message, "rows", did_you_mean(wanted, keys))

    def _rows(self, text: JsonText) -> Iterator[Row | Broken]:
        """Rows of the list or the object that begins here."""
        begins, column = text.peek(), self.options.key
        if begins == "{" and column is not None:
            yield from self._by_key(text, column)
        elif begins == "[" and column is not None:
            text.refuse("the rows are a list, so they have no keys", "bad-value", "key", "leave `key` out")
        elif begins == "[":
            for number in text.elements():
                yield row_of(f"{self.name}: item {number}", text.value())
        elif begins == "{":
            message = f"{self.name}:{text.line(text.at)}: an object, where a list of rows should be"
            raise BadOption("bad-json", message, "path", self._meant(text))
        else:
            text.refuse("neither a list of rows nor an object that holds them")

    def _by_key(self, text: JsonText, column: str) -> Iterator[Row | Broken]:
        seen = set[str]()
        for key in text.members():
            shown = key.encode(errors="backslashreplace").decode()  # half of a character is in no file's encoding
            origin = f"{self.name}: {shown}"
            value = text.value()
            if key in seen:
                yield Broken(origin, "the key stands in the file a second time")
            elif isinstance(value, dict) and column in value:
                yield Broken(origin, f"the row has a column `{column}` of its own: choose another name for `key`")
            else:
                yield row_of(origin, {column: key, **value} if isinstance(value, dict) else value)
            seen.add(key)

    def _meant(self, text: JsonText) -> str:
        """What to write, by what the object holds near its beginning."""
        text.left, first = HEAD_BYTES, ""
        try:
            for key in text.members():
                begins = text.peek()
                if begins == "[" and self.options.rows is None:
                    return f"write `rows: {key}` to take the list that stands there"
                first = first or begins
                text.skip()
        except (Cut, BadOption):
            pass  # what it says of the object's beginning is all that is known
        if first == "{":
            return "write `key: id` to take its values as rows, with their keys in a column `id`"
        return "a file with one object a line is `kind: jsonl`"
