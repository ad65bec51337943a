"""`csv`: RFC 4180 with a header line, UTF-8. A row's origin is the line on which it begins."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.parts.base import BadOption
from tunewright_files.file import HEAD_BYTES, Broken, FileOptions, FileSource, Head, Row


class CsvOptions(FileOptions):
    """Options of a csv source."""

    kind: str = "csv"
    delimiter: Annotated[str, Field(min_length=1, max_length=1, description="Between two fields.")] = ","


class Csv(FileSource):
    """Rows of a csv file with a header."""

    kind = "csv"
    Options: ClassVar = CsvOptions
    options: CsvOptions
    reads = frozenset({"path", "delimiter"})

    def head(self) -> Head:
        text = self._head_text()
        # a head that was cut may end inside of quotes, and a broken row may be one to set aside
        whole = self.path.stat().st_size < HEAD_BYTES and self.options.on_error == "stop"
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.options.delimiter, strict=whole)
        rows: list[dict[str, str]] = []
        begins = 1  # the line of the row that is read
        try:
            columns = tuple(next(reader, ()))
            self._check_columns(columns)
            begins = reader.line_num + 1
            for values in reader:
                if len(values) == len(columns):
                    rows.append(dict(zip(columns, values, strict=True)))
                begins = reader.line_num + 1
        except csv.Error as error:
            message = f"{self.name}:{begins}: not csv: {error}"
            raise BadOption(
                "bad-csv", message, "path", "save it with line ends \\n and quoted fields closed"
            ) from error
        return Head(columns, tuple(rows))

    def _check_columns(self, columns: tuple[str, ...]) -> None:
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise BadOption("bad-header", f"{self.name}:1: column `{twice[0]}` stands twice in the header", "path")
        if not columns or "" in columns:
            raise BadOption("bad-header", f"{self.name}:1: the header has a column without a name", "path")

    def rows(self) -> Iterator[Row | Broken]:
        lines = _Lines(self._lines())
        reader = csv.reader(lines, delimiter=self.options.delimiter, strict=True)
        columns: tuple[str, ...] = ()
        while True:
            start = lines.number + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                swallowed = lines.number - start
                more = f"; with it the {swallowed} lines after it, up to the end of the file" if swallowed > 0 else ""
                yield Broken(f"{self.name}:{start}", f"not csv: {error}{more}")
                continue
            if lines.broken:
                yield from lines.take_broken()
                continue
            if not columns:
                columns = tuple(values)
                self._check_columns(columns)
            elif values:
                yield self._row(columns, values, f"{self.name}:{start}")

    def _row(self, columns: tuple[str, ...], values: list[str], origin: str) -> Row | Broken:
        if len(values) != len(columns):
            return Broken(origin, f"{len(values)} fields, the header has {len(columns)}")
        return Row(origin, origin, dict(zip(columns, values, strict=True)))


class _Lines:
    """Feeds csv.reader and counts lines, since its own count is of what it has read ahead in quoted fields."""

    def __init__(self, lines: Iterator[tuple[int, str | Broken]]) -> None:
        self.lines, self.number, self.broken = lines, 0, list[Broken]()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        self.number, line = next(self.lines)
        if isinstance(line, Broken):
            self.broken.append(line)
            return "\n"
        return line

    def take_broken(self) -> list[Broken]:
        found, self.broken = self.broken, []
        return found
