"""`jsonl`: one JSON object a line, UTF-8."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import ClassVar

from tunewright.parts.base import BadOption
from tunewright_files.file import Broken, FileOptions, FileSource, Head, Row


class JsonlOptions(FileOptions):
    """Options of a jsonl source."""

    kind: str = "jsonl"


class Jsonl(FileSource):
    """Rows of a file of JSON objects; the columns are those of all objects in the head."""

    kind = "jsonl"
    Options: ClassVar = JsonlOptions

    def head(self) -> Head:
        lines = [line for line in self._head_text().splitlines() if line.strip()]
        found = [self._row(number, line) for number, line in enumerate(lines, 1)]
        if found and isinstance(found[0], Broken):
            raise BadOption("bad-jsonl", f"{found[0].origin}: {found[0].why}", "path", "each line is one JSON object")
        rows = [row.fields for row in found if isinstance(row, Row)]
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
        except ValueError as error:  # Python reads no number of thousands of digits
            return Broken(origin, f"not readable: {error}")
        except RecursionError:
            return Broken(origin, "nested too deeply")
        if not isinstance(value, dict):
            return Broken(origin, "not a JSON object")
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return Broken(origin, "half of a surrogate pair: a character that was cut in two")
        return Row(origin, origin, value)
