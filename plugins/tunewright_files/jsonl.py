"""`jsonl`: one JSON object a line, UTF-8."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from tunewright.parts.base import BadOption
from tunewright_files.file import Broken, FileOptions, FileSource, Head, Row
from tunewright_files.values import DECODER, row_of, why_not


class JsonlOptions(FileOptions):
    """Options of a jsonl source."""

    kind: str = "jsonl"


class Jsonl(FileSource):
    """Rows of a file of JSON objects; the columns are those of all objects in the head."""

    kind = "jsonl"
    Options: ClassVar = JsonlOptions

    def head(self) -> Head:
        lines = enumerate(self._head_text().split("\n"), 1)  # of what may end a line, JSON allows the rest in a text
        found = [self._row(number, line) for number, line in lines if line.strip()]
        if found and isinstance(found[0], Broken):
            fix = "each line is one JSON object; a list over the whole file is `kind: json`"
            raise BadOption("bad-jsonl", f"{found[0].origin}: {found[0].why}", "path", fix)
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
            return row_of(origin, DECODER.decode(line))
        except (ValueError, RecursionError) as error:
            why, column = why_not(error)
            return Broken(f"{origin}:{column}" if column else origin, why)
