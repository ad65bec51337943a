"""What the conformance kit cannot know of a database of tickets, and the house rule."""

import sqlite3
from contextlib import closing

import pytest
from tunewright.parts import BadOption, Facts
from tunewright.parts.data_source import Broken, Row

from acme_tunewright.house import check_rows
from acme_tunewright.tickets import Tickets


def tickets(path, **options):
    return Tickets(Tickets.Options.model_validate({"path": str(path), **options}))


def change(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


def test_a_row_is_called_by_the_tickets_own_id(database):
    rows = list(tickets(database).rows())
    assert rows[0].origin == "tickets.db:tickets:17"
    assert rows[0].fields["subject"] == "Invoice 2241 twice"
    new = list(tickets(database, table="new_tickets").rows())
    assert (len(rows), len(new), new[0].id) == (60, 20, "tickets.db:new_tickets:203")


def test_the_digest_is_of_the_rows_and_not_of_the_file(database):
    before = tickets(database).digest()
    change(database, "DELETE FROM new_tickets WHERE id = 203", "VACUUM")
    assert tickets(database).digest() == before
    change(database, "UPDATE tickets SET team = 'repairs' WHERE id = 17")
    assert tickets(database).digest() != before


def test_a_row_that_only_the_log_holds_counts(database):
    change(database, "PRAGMA journal_mode = WAL")
    before, file = tickets(database).digest(), database.read_bytes()
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("DELETE FROM tickets WHERE id = 17")
        writer.commit()
        assert database.read_bytes() == file
        assert tickets(database).digest() != before


def test_text_that_is_none_breaks_its_row_alone(database):
    change(database, "UPDATE tickets SET body = CAST(X'FF41' AS TEXT) WHERE id = 18")
    rows = list(tickets(database).rows())
    assert [row for row in rows if isinstance(row, Broken)] == [Broken("tickets.db:tickets:18", "`body` is not text")]
    assert len(rows) == 60


@pytest.mark.parametrize(
    ("options", "code", "field"),
    [({"table": "orders"}, "file-unreadable", "table"), ({"path": "no.db"}, "file-missing", "path")],
)
def test_what_the_database_does_not_have_is_said(database, options, code, field):
    with pytest.raises(BadOption) as caught:
        tickets(**{"path": database, **options}).head()
    assert (caught.value.finding.code, caught.value.finding.field) == (code, field)


def test_nothing_can_be_written_through_it(database, monkeypatch):
    opened, connect = [], sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: opened.append(connect(*a, **k)) or opened[-1])
    rows = tickets(database).rows()
    next(rows)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        opened[0].execute("DELETE FROM tickets")
    assert [path.name for path in database.parent.iterdir()] == ["tickets.db"]


def rows(*texts, name="t"):
    return tuple(Row(f"{name}:{n}", f"{name}:{n}", {"body": text}) for n, text in enumerate(texts))


def test_the_rule_names_the_source_and_the_row_but_not_the_address():
    clean, dirty = "no steam @ the second floor", "write to kim@example.org"
    (finding,) = check_rows(None, Facts(rows=(rows(clean), rows(clean, dirty, dirty))))
    assert (finding.field, finding.message) == ("data.train.1", "t:1 and 1 more: an e-mail address in `body`")
    assert list(check_rows(None, Facts(rows=(rows(clean), ())))) == []
