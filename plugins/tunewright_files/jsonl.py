"""`jsonl`: one JSON object a line, UTF-8."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import ClassVar

from tunewright_files.file import Broken, FileOptions, FileSource, Head, Row


class JsonlOptions(FileOptions):
    """Options of a jsonl source."""

    kind: str = "jsonl"


class Jsonl(FileSource):
    """Rows of a file of JSON objects; the columns are those of the first object."""

    kind = "jsonl"
    Options: ClassVar = JsonlOptions

    def head(self) -> Head:
        lines = [line for line in self._head_text().splitlines() if line.strip()]
        rows = [row.fields for number, line in enumerate(lines, 1) if isinstance(row := self._row(number, line), Row)]
        return Head(tuple(dict.fromkeys(column for row in rows for column in row)), tuple(rows))

    def rows(self) -> Iterator[Row | Broken]:
        for number, line in self._lines():
            if isinstance(line, Broken):
                yield line
            elif line.strip():
                yield self._row(number, line)

    def _row(self, number: int, line: str) -> Row | Broken:
        origin = f"{self.name}:{number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            return Broken(f"{origin}:{error.colno}", f"not JSON: {error.msg}")
        except RecursionError:
            return Broken(origin, "nested too deeply")
        if not isinstance(value, dict):
            return Broken(origin, "not a JSON object")
        return Row(origin, origin, value)
