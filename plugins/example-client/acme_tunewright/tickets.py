"""`tickets`: one table of a SQLite database, in the order of its row ids."""

import hashlib
import sqlite3
from contextlib import closing
from itertools import islice
from typing import Annotated

from pydantic import Field
from tunewright.parts import BadOption, DataSource, Head, SpecPath
from tunewright.parts.data_source import Broken, Row, SourceOptions


class TicketsOptions(SourceOptions):
    kind: str = "tickets"
    path: Annotated[SpecPath, Field(description="The database, relative to the spec; opened read-only.")]
    table: Annotated[str, Field(pattern=r"^\w+$", description="A table with row ids.")] = "tickets"


class Tickets(DataSource[TicketsOptions]):
    """Ticket 17 is called `tickets.db:tickets:17` in every message: a client finds it by its own id."""

    kind, Options = "tickets", TicketsOptions
    reads = frozenset({"path", "table"})  # fields that this code reads; `where`, `sample` … are the core's
    vary = {"table": ("tickets", "new_tickets")}  # for the conformance kit: two values that must differ

    @property
    def name(self):
        return f"{self.options.path.path.name}:{self.options.table}"

    def head(self):
        rows = [row.fields for row in islice(self.rows(), 50) if isinstance(row, Row)]
        if not rows:
            raise BadOption("file-empty", f"table `{self.options.table}` has no row that can be read", "table")
        return Head(tuple(rows[0]), tuple(rows))

    def digest(self):
        """Of the rows, not of the file: a new row may stand in SQLite's `-wal` file alone, and VACUUM moves bytes."""
        return hashlib.sha256("\n".join(map(repr, self._read())).encode()).hexdigest()

    def rows(self):
        for number, fields in self._read():
            origin = f"{self.name}:{number}"
            blobs = [column for column, value in fields.items() if isinstance(value, bytes)]
            yield Broken(origin, f"`{blobs[0]}` is not text") if blobs else Row(origin, origin, fields)

    def _read(self):
        """(row id, fields) of each row, from one snapshot of the table."""
        path = self.options.path
        if not path.path.is_file():
            raise BadOption("file-missing", f"there is no file `{path.written}`", "path")
        with closing(sqlite3.connect(f"{path.path.as_uri()}?mode=ro", uri=True)) as database:
            database.text_factory = _text
            try:
                cursor = database.execute(f'SELECT rowid, * FROM "{self.options.table}" ORDER BY rowid')
                names = [column[0] for column in cursor.description[1:]]
                for number, *values in cursor:
                    yield number, dict(zip(names, values, strict=True))
            except sqlite3.DatabaseError as error:  # no database, no such table, a damaged page
                raise BadOption("file-unreadable", f"`{path.written}`: {error}", "table") from error


def _text(data):
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data  # bytes: this row is broken, the others are not
