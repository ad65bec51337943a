"""What every source of one JSON value has in common: its rows one by one, and the first ones for a head."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import ClassVar

from tunewright.parts.base import BadOption, Head
from tunewright.parts.data_source import Broken, Row
from tunewright_files.file import HEAD_BYTES, MAX_LINE, FileSource
from tunewright_files.stream import Cut, JsonText


class StreamedJson(FileSource):
    """A source that is one JSON value, read piece by piece; subclasses say which pieces are rows."""

    columns: ClassVar[tuple[str, ...]] = ()
    """Of every row, where the form of the file fixes them; else the first rows tell."""
    a_row: ClassVar[str] = "each row is one JSON object"

    @abstractmethod
    def pieces(self, text: JsonText) -> Iterator[Row | Broken]:
        """Every row of the file. Raises `BadOption` where the file is not of its form."""

    def rows(self) -> Iterator[Row | Broken]:
        with self._readable().open("rb") as file:
            yield from self.pieces(JsonText(file, self.name))

    def head(self) -> Head:
        """Columns and rows of the first 64 KiB; where these hold no whole row and the columns are not known, of the
        first row within 1 MiB."""
        found = self._begin(HEAD_BYTES)
        if not found and not self.columns:
            found = self._begin(MAX_LINE, 1)
        self._refuse_foreign(found)
        rows = [row.fields for row in found if isinstance(row, Row)]
        return Head(self.columns or tuple(dict.fromkeys(column for row in rows for column in row)), tuple(rows))

    def _begin(self, most: int, limit: int | None = None) -> list[Row | Broken]:
        """The first rows, from at most so many bytes; none where more would have to be read for one."""
        found: list[Row | Broken] = []
        with self._readable().open("rb") as file:
            try:
                for row in islice(self.pieces(JsonText(file, self.name, most)), limit):
                    found.append(row)
            except Cut:
                if not found and most == MAX_LINE:
                    self._too_late()
                return found
        if not found:
            raise self._nothing()
        return found

    def _nothing(self) -> BadOption:
        """What to say of a file that was read whole and gave no row."""
        return BadOption("no-rows", f"`{self.name}` holds no rows", "path")

    def _refuse_foreign(self, found: list[Row | Broken]) -> None:
        """A file that begins with what is no row is another file, unless broken rows may be set aside."""
        given_up = self.options.on_error == "stop" or all(isinstance(row, Broken) for row in found)
        if given_up and found and isinstance(found[0], Broken):
            raise BadOption("bad-json", f"{found[0].origin}: {found[0].why}", "path", self.a_row)

    def _too_late(self) -> None:
        message = f"no whole row is found in the first {MAX_LINE:,} bytes of `{self.name}`"
        raise BadOption("bad-json", message, "path", self._to_shorten())

    def _to_shorten(self) -> str:
        """What to do about a row that begins too late."""
        return "a row may have 1 MiB"
