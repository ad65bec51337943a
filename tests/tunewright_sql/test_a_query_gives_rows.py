"""Rows of a database by a query: named by their key, digested by what they hold, and never written."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from contextlib import closing

import pytest
from pydantic import ValidationError

from tunewright.errors import EnvironmentFault, MissingExtra
from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption
from tunewright.parts.data_source import Broken, Row
from tunewright.testing import check_data_source
from tunewright_sql.sql import Sql, SqlOptions

pytest.importorskip("sqlalchemy")

QUERY = "SELECT id, text, label FROM tickets ORDER BY id"
ODD = "data #1 100%?.db"


def change(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


@pytest.fixture
def database(tmp_path):
    path = tmp_path / ODD
    change(
        path,
        "CREATE TABLE tickets (id INTEGER PRIMARY KEY, text TEXT, label TEXT, score REAL)",
        "INSERT INTO tickets VALUES (17, 'where is my parcel', 'delivery', 0.5), (4, 'café ☕', 'billing', NULL)",
    )
    return path


@pytest.fixture
def source(database, tmp_path):
    def made(query=QUERY, **options):
        return Sql(SqlOptions(path=SpecPath(ODD, tmp_path), query=query, **options))

    return made


def fields(source):
    return [dict(row.fields) for row in source.rows()]


def refusal(call, kind=BadOption):
    with pytest.raises(kind) as caught:
        call()
    return caught.value


def test_the_columns_of_the_query_are_those_of_the_rows(source):
    made = source("SELECT text, label AS queue, score FROM tickets ORDER BY id")
    rows = [
        {"text": "café ☕", "queue": "billing", "score": None},
        {"text": "where is my parcel", "queue": "delivery", "score": 0.5},
    ]
    assert fields(made) == rows
    assert made.head() == (("text", "queue", "score"), tuple(rows))


def test_rows_are_called_by_their_number_or_by_their_key(source):
    assert [row.id for row in source().rows()] == [f"{ODD}: row 1", f"{ODD}: row 2"]
    assert [row.origin for row in source(key="id").rows()] == [f"{ODD}: id 4", f"{ODD}: id 17"]


def test_a_query_without_rows_still_has_columns(source):
    made = source("SELECT text FROM tickets WHERE id = 0")
    assert made.head() == (("text",), ())
    assert list(made.rows()) == []


def test_signs_that_are_parameters_elsewhere_are_taken_as_they_are(source):
    made = source("SELECT '12:30 :name ? 100% %s' AS text, text LIKE 'caf%' AS \"yes:no\" FROM tickets ORDER BY id")
    assert fields(made)[0] == {"text": "12:30 :name ? 100% %s", "yes:no": 1}


def test_the_digest_is_of_the_rows_in_order(source, database):
    before = source().digest()
    change(database, "ALTER TABLE tickets ADD COLUMN noise TEXT", "CREATE TABLE other (n)", "VACUUM")
    assert source().digest() == before
    assert source(QUERY + " DESC").digest() != before
    assert source(QUERY.replace("text", "text AS body")).digest() != before
    change(database, "UPDATE tickets SET label = 'repairs' WHERE id = 17")
    assert source().digest() != before


def test_the_digest_is_that_of_a_copy_elsewhere_with_its_broken_rows(source, database, tmp_path):
    change(database, "INSERT INTO tickets VALUES (20, x'00ff', 'a', 1)")
    shutil.copy(database, tmp_path / "copy.db")
    assert Sql(SqlOptions(path=SpecPath("copy.db", tmp_path), query=QUERY)).digest() == source().digest()


def test_a_head_stops_at_64_kib(source, database):
    change(
        database,
        "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
        "INSERT INTO tickets SELECT i, hex(zeroblob(500)), 'a', 1 FROM n",
    )
    head = source().head()
    assert 50 < len(head.rows) < 70
    assert list(head.rows) == fields(source())[: len(head.rows)]


def test_a_row_that_holds_what_is_no_text_is_broken_and_the_others_are_read(source, database):
    change(
        database,
        "INSERT INTO tickets VALUES (20, x'00ff', 'a', 1), (21, CAST(x'63ff' AS TEXT), 'a', 1)",
        "INSERT INTO tickets VALUES (22, 'large', 'a', 9e999), (23, 'last', 'a', 1)",
    )
    found = list(source("SELECT id, text, score FROM tickets ORDER BY id", key="id").rows())
    broken = [row for row in found if isinstance(row, Broken)]
    assert [row.origin.split()[-1] for row in broken] == ["20", "21", "22"]
    assert ["`text` holds bytes" in row.why for row in broken] == [True, True, False]
    assert isinstance(found[-1], Row)
    assert [row["id"] for row in source().head().rows] == [4, 17, 22, 23]


def test_a_row_without_its_key_is_broken(source, database):
    change(database, "INSERT INTO tickets VALUES (30, NULL, 'a', 1)")
    found = list(source(key="text").rows())[-1]
    assert found == Broken(f"{ODD}: row 3", "no value in the key column `text`")


@pytest.mark.parametrize(
    ("options", "code", "field", "says"),
    [
        ({"query": "SELECT text, lable FROM tickets"}, "bad-value", "query", "no such column: lable"),
        ({"query": "SELECT text FROM ticket"}, "bad-value", "query", "no such table: ticket"),
        ({"query": "SELECT text, FROM tickets"}, "bad-value", "query", "syntax error"),
        ({"query": "SELECT text, label AS text FROM tickets"}, "bad-header", "query", "two columns `text`"),
        ({"query": 'SELECT text AS "" FROM tickets'}, "bad-header", "query", "without a name"),
        ({"key": "ids"}, "missing-column", "key", "did you mean `id`"),
    ],
)
def test_what_the_database_does_not_answer_stands_at_the_query(source, options, code, field, says):
    made = source(**options)
    for call in (made.head, made.digest, lambda: list(made.rows())):
        found = refusal(call)
        assert (found.finding.code, found.finding.field) == (code, field)
        assert says in str(found)


@pytest.mark.parametrize(
    ("content", "code"), [(None, "file-missing"), (b"", "file-empty"), (b"no database" * 99, "file-unreadable")]
)
def test_a_file_that_is_no_database_is_a_finding_on_its_path(tmp_path, content, code):
    if content is not None:
        (tmp_path / "x.db").write_bytes(content)
    found = refusal(Sql(SqlOptions(path=SpecPath("x.db", tmp_path), query="SELECT 1 AS n")).head)
    assert (found.finding.code, found.finding.field) == (code, "path")
    assert sorted(tmp_path.iterdir()) == ([] if content is None else [tmp_path / "x.db"])


def test_a_damaged_page_is_the_files_fault(source, database):
    change(database, "INSERT INTO tickets SELECT id + 100, hex(zeroblob(3000)), label, 1 FROM tickets")
    whole = bytearray(database.read_bytes())
    whole[4096:] = b"\xa5" * (len(whole) - 4096)
    database.write_bytes(bytes(whole))
    assert refusal(lambda: list(source().rows())).finding.code == "file-unreadable"


def test_exactly_one_database_is_named(tmp_path, source):
    nothing = refusal(Sql(SqlOptions(query=QUERY)).head)
    assert (nothing.finding.code, "path: data.db" in str(nothing)) == ("missing-key", True)
    assert refusal(source(url="postgresql://db.acme.com/desk").head).finding.field == "url"


WRITES = [
    "INSERT INTO tickets VALUES (1, 'a', 'b', 1)",
    "DELETE FROM tickets",
    "DROP TABLE tickets",
    "PRAGMA user_version = 7",
    "ATTACH DATABASE 'other.db' AS other",
    "-- SELECT\nDELETE FROM tickets",
    "SELECT 1; DELETE FROM tickets",
    "SELECT 1 /* ' */; DROP TABLE tickets --'",
    "WITH gone AS (DELETE FROM tickets RETURNING *) SELECT * FROM gone",
    "WITH n AS (SELECT 1) INSERT INTO tickets SELECT 1, 'a', 'b', 1",
    "SELECT * INTO other FROM tickets",
    "SELECT * FROM tickets FOR UPDATE",
    "",
    "-- nothing",
    "SELECT 1\0",
]


@pytest.mark.parametrize("query", WRITES)
def test_what_does_more_than_read_is_refused_before_a_database_is_asked(source, query):
    with pytest.raises(ValidationError, match="query"):
        source(query)


@pytest.mark.parametrize(
    "query",
    [
        "select text from tickets;",
        " \n-- of the desk; all\n(SELECT text FROM tickets)",
        "SELECT 'insert; delete' AS text -- update",
        'SELECT text AS "update", label AS "a;b" FROM tickets',
        "SELECT replace(text, 'into', 'updated_at') AS deleted FROM tickets",
        "WITH n AS (SELECT text FROM tickets) SELECT * FROM n /* ; */ ; -- end",
        "VALUES (1, 2)",
    ],
)
def test_a_query_that_only_reads_is_taken(source, query):
    assert source(query).options.query == query


def test_a_database_is_opened_read_only_whatever_the_query_says(source, database, monkeypatch):
    before = database.read_bytes()
    made = source()
    object.__setattr__(made.options, "query", "DELETE FROM tickets RETURNING id")
    assert "readonly" in str(refusal(lambda: list(made.rows())))
    assert database.read_bytes() == before


def test_rows_are_fetched_a_few_at_a_time(source):
    rows = source(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, hex(zeroblob(500)) AS text FROM n"
    ).rows()
    assert [next(rows).fields["i"] for _ in range(200)][-1] == 200  # of a query that never ends
    rows.close()


def test_without_sqlalchemy_the_extra_is_named(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingExtra, match=r"tunewright\[sql\]"):
        source().head()


def test_it_keeps_its_contract(database, tmp_path):
    check_data_source(Sql, {"path": database, "query": QUERY, "key": "id"}, folder=tmp_path / "kit")


def test_a_database_that_is_not_there_is_the_environments_fault(monkeypatch):
    made = Sql(SqlOptions.model_validate({"url": "postgresql+nodriver://db.acme.com/desk", "query": QUERY}))
    assert made.name == "desk"
    assert refusal(made.head).finding.field == "url"
    for url in ("postgresql+psycopg://localhost/desk", "mysql+pymysql://localhost/desk"):
        found = refusal(Sql(SqlOptions.model_validate({"url": url, "query": QUERY})).head, EnvironmentFault)
        assert "driver" in str(found) or "cannot be reached" in str(found)
