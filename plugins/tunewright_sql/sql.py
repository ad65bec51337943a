"""`sql`: the rows of a query, from SQLite and every database that SQLAlchemy has a dialect for. It only reads."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from tunewright.digest import canonical_json
from tunewright.errors import EnvironmentFault, MissingExtra
from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption, Head, Unkeyed
from tunewright.parts.data_source import Broken, DataSource, Row, SourceOptions
from tunewright.secrets import redact
from tunewright.spec.suggest import did_you_mean
from tunewright_files.file import HEAD_BYTES, readable
from tunewright_files.values import row_of_values
from tunewright_sql.statement import reading
from tunewright_sql.url import DatabaseUrl

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

AT_ONCE = 64  # rows that are fetched at a time


class SqlOptions(SourceOptions):
    """Options of a sql source."""

    kind: str = "sql"
    path: Annotated[
        SpecPath | None, Field(description="A SQLite file, relative to the spec that names it; opened read-only.")
    ] = None
    url: Annotated[
        DatabaseUrl | None,
        Unkeyed(),  # as a path: what the database holds counts, not where it is
        Field(description="Any other database, as SQLAlchemy writes it; its password only as `${env:NAME}`."),
    ] = None
    query: Annotated[
        str,
        AfterValidator(reading),
        Field(
            description="One SELECT; its columns are the rows'. With ORDER BY, so that equal data comes in one order."
        ),
    ]
    key: Annotated[
        str | None, Field(min_length=1, description="The column by whose values rows are called; else their number.")
    ] = None


class Sql(DataSource[SqlOptions]):
    """Rows of a query (`desk.db: row 17`, counted from 1; with `key: id`, `desk.db: id 4711`)."""

    kind = "sql"
    Options: ClassVar = SqlOptions
    reads = frozenset({"path", "url", "query", "key"})
    vary: ClassVar = {
        "url": (None, "postgresql://db.acme.com/desk"),
        "query": ("SELECT 1 AS id", "SELECT 2 AS id"),
        "key": (None, "id"),
    }
    extra = "sql"
    libraries = ("sqlalchemy",)

    @property
    def name(self) -> str:
        if self.options.path is not None:
            return self.options.path.path.name
        return self.options.url.database if self.options.url is not None else self.kind

    def head(self) -> Head:
        """The query's columns, and its first rows up to 64 KiB of values."""
        rows, size = list[Row](), 0
        with closing(self._read()) as found:
            columns = next(found)
            for row in found:
                if isinstance(row, Row):
                    size += len(canonical_json(dict(row.fields)))
                    if rows and size > HEAD_BYTES:
                        break
                    rows.append(row)
        return Head(tuple(columns), tuple(row.fields for row in rows))

    def digest(self) -> str:
        """Of the columns and the rows in their order: of a database's file, or its host, nothing is in it."""
        found = hashlib.sha256()
        for row in self._read():
            found.update(canonical_json(_seen(row)) + b"\n")
        return found.hexdigest()

    def rows(self) -> Iterator[Row | Broken]:
        found = self._read()
        next(found)
        yield from found

    def _read(self) -> Generator[Any, None, None]:
        """The columns' names, then every row."""
        with _engine(self.options) as engine, self._connected(engine) as connection, self._asking():
            # no parameters: a driver that is given none leaves each `%` and `:` of the query as it is
            options = {"no_parameters": True, "stream_results": True, "max_row_buffer": AT_ONCE}
            result = connection.execution_options(**options).exec_driver_sql(self.options.query)
            columns = self._columns([str(column[0]) for column in result.cursor.description])
            yield columns
            for number, values in enumerate(result, 1):
                yield self._row(number, dict(zip(columns, values, strict=True)))

    def _columns(self, columns: list[str]) -> list[str]:
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            fix = "give one of them another name with AS"
            raise BadOption("bad-header", f"the query has two columns `{twice[0]}`", "query", fix)
        if "" in columns:
            raise BadOption("bad-header", "the query has a column without a name", "query", "name it with AS")
        if self.options.key is not None and self.options.key not in columns:
            message = f"the query has no column `{self.options.key}`"
            raise BadOption("missing-column", message, "key", did_you_mean(self.options.key, columns))
        return columns

    def _row(self, number: int, values: dict[str, Any]) -> Row | Broken:
        key, origin = self.options.key, f"{self.name}: row {number}"
        if key is not None and values[key] is None:
            return Broken(origin, f"no value in the key column `{key}`")
        return row_of_values(origin if key is None else f"{self.name}: {key} {values[key]}", values)

    @contextmanager
    def _connected(self, engine: Engine) -> Iterator[Connection]:
        """A connection whose transaction is rolled back when it is closed."""
        from sqlalchemy.exc import SQLAlchemyError

        path = self.options.path
        try:
            connection = engine.connect().execution_options(postgresql_readonly=True)
        except (SQLAlchemyError, OSError) as error:
            if path is not None:
                raise self._unreadable(path, error) from error
            message = f"database `{self.name}` cannot be reached: {_cause(error)}"
            raise EnvironmentFault(message, fix="check the host, the database's name and the user in `url`") from error
        with connection:
            if path is not None:
                try:  # SQLite looks at a file only once it is asked
                    connection.exec_driver_sql("PRAGMA schema_version")
                except SQLAlchemyError as error:
                    raise self._unreadable(path, error) from error
            yield connection

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """What the database says against the query, at the query."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except SQLAlchemyError as error:
            path = self.options.path
            if path is not None and type(getattr(error, "orig", None)) is sqlite3.DatabaseError:
                raise self._unreadable(path, error) from error  # a damaged page
            raise BadOption(
                "bad-value", f"`{self.name}` does not answer the query: {_cause(error)}", "query"
            ) from error

    def _unreadable(self, path: SpecPath, error: Exception) -> BadOption:
        return BadOption("file-unreadable", f"`{path.written}` cannot be read by SQLite: {_cause(error)}", "path")


@contextmanager
def _engine(options: SqlOptions) -> Iterator[Engine]:
    """SQLAlchemy's engine for the one database that is named. Raises `BadOption`, `EnvironmentFault`."""
    try:
        import sqlalchemy
    except ImportError as error:
        raise MissingExtra("data_source/sql", "sql", error) from error
    engine = _of_file(sqlalchemy, options) if options.url is None else _of_url(sqlalchemy, options, options.url)
    try:
        yield engine
    finally:
        engine.dispose()


def _of_file(sqlalchemy: Any, options: SqlOptions) -> Engine:
    if options.path is None:
        fix = "write `path: data.db` for SQLite, or `url: postgresql+psycopg://…`"
        raise BadOption("missing-key", "no database is named", "kind", fix)
    path = readable(options.path.path, options.path.written)
    found: Engine = sqlalchemy.create_engine(
        "sqlite://", creator=lambda: _open_read_only(path), poolclass=sqlalchemy.pool.NullPool
    )
    return found


def _open_read_only(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    connection.text_factory = _text
    return connection


def _text(data: bytes) -> str | bytes:
    """Text, or bytes that are none: one such row is broken, and does not end the reading of the others."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _of_url(sqlalchemy: Any, options: SqlOptions, url: DatabaseUrl) -> Engine:
    if options.path is not None:
        raise BadOption("bad-value", "`path` and `url` name two databases", "url", "leave one of them out")
    try:
        found: Engine = sqlalchemy.create_engine(url.reveal(), poolclass=sqlalchemy.pool.NullPool)
    except sqlalchemy.exc.NoSuchModuleError as error:
        message = f"SQLAlchemy has no dialect for `{url.written.partition(':')[0]}`"
        raise BadOption("bad-value", message, "url", "install its dialect, or name one of SQLAlchemy's own") from error
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:  # what it says may show the secret
        message = f"`{url.written}` is no URL of a database"
        raise BadOption(
            "bad-value", message, "url", "as in `postgresql+psycopg://user:${env:PASSWORD}@host/name`"
        ) from error
    except ImportError as error:
        message = f"`{url.written.partition(':')[0]}` needs the driver `{error.name}`, which is not installed"
        raise EnvironmentFault(message, fix=f"install the driver, for instance: pip install {error.name}") from error
    return found


def _seen(row: Any) -> list[Any]:
    """Of the columns, a row or a broken row what a digest is of; an origin names the file, so it is left out."""
    if isinstance(row, Broken):
        return [None, row.why]
    return [dict(row.fields)] if isinstance(row, Row) else list(row)


def _cause(error: Exception) -> str:
    """What a driver said, on one line, without secrets."""
    return redact(" ".join(str(getattr(error, "orig", None) or error).split()))
