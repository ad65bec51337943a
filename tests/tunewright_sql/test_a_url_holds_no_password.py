"""A password that is typed into a spec is refused and not repeated; one that is named is read when it is used."""

from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy
from pydantic import ValidationError

from tunewright import secrets
from tunewright.errors import EnvironmentFault
from tunewright_sql import sql
from tunewright_sql.sql import Sql, SqlOptions
from tunewright_sql.url import DatabaseUrl

HIDDEN = "hunter-2"


def source(url):
    return Sql(SqlOptions.model_validate({"url": url, "query": "SELECT 1 AS n"}))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{HIDDEN}@host/db",
        f"postgresql+psycopg://:{HIDDEN}@host/db",
        f"postgresql://me:{HIDDEN}@odd@host/db",
        f"postgresql://me:{HIDDEN}${{env:X}}@host/db",
        f"postgresql://me:a/{HIDDEN}@host/db",
        f"me:{HIDDEN}@host/db",
        f"postgresql:/me:{HIDDEN}@host/db",
        f"postgresql://host/db?user=me&password={HIDDEN}",
        f"postgresql://host/db?sslpassword={HIDDEN}",
        f"snowflake://me@host/db?TOKEN={HIDDEN}",
        f"mssql+pyodbc:///?odbc_connect=DRIVER=x;UID=me;PWD={HIDDEN}",
        f"mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Dme%3BPWD%3D{HIDDEN}",
    ],
)
def test_a_typed_password_is_refused_by_the_code_of_secrets(url):
    with pytest.raises(ValidationError) as caught:
        source(url)
    assert [error["type"] for error in caught.value.errors()] == ["secret_in_spec"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://host/db",
        "postgresql://me@host/db",
        "postgresql://me@host:5432/db?sslmode=require",
        "postgresql+psycopg://me:${env:PASSWORD}@host/db",
        "postgresql://${env:USER}:${env:PASSWORD}@host/db",
        "postgresql://host/db?password=${env:PASSWORD}&sslmode=require",
        "${env:DATABASE_URL}",
    ],
)
def test_a_url_without_one_is_taken_and_written_as_it_was(url):
    options = source(url).options
    assert options.model_dump(mode="json")["url"] == url
    assert "url" not in source(url).settings()


@pytest.mark.parametrize("url", ["db.acme.com/desk", "", 7, "sqlite:///rows.db"])
def test_what_is_no_url_or_a_files_is_refused(url):
    with pytest.raises(ValidationError):
        source(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://me:${env:P}@host:5432/desk?x=/y", "desk"),
        ("postgresql://host/", "host"),
        ("${env:DATABASE_URL}", "DATABASE_URL"),
    ],
)
def test_a_source_is_called_by_its_database(url, name):
    assert source(url).name == name


def test_a_variables_value_is_no_part_of_the_urls_own_signs(monkeypatch):
    monkeypatch.setenv("NASTY", "a@b:c/d?e#f%41")
    monkeypatch.setenv("WHOLE", "postgresql://me:pass@host/db")
    read = sqlalchemy.make_url(DatabaseUrl("postgresql://me:${env:NASTY}@host/db?password=${env:NASTY}").reveal())
    assert (read.username, read.password, read.host, read.query["password"]) == (
        "me", "a@b:c/d?e#f%41", "host", "a@b:c/d?e#f%41",
    )  # fmt: skip
    assert DatabaseUrl("${env:WHOLE}").reveal() == "postgresql://me:pass@host/db"


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(EnvironmentFault, match="NOWHERE"):
        source("postgresql://me:${env:NOWHERE}@host/db").head()


def test_what_a_driver_says_is_told_without_the_password(monkeypatch):
    monkeypatch.setenv("PASSWORD", HIDDEN)

    def refused(*args, **kwargs):
        raise sqlite3.OperationalError(f"no login for me with {HIDDEN}\nat all")

    made = source("postgresql://me:${env:PASSWORD}@host/desk")
    engine = sqlalchemy.create_engine("sqlite://", creator=refused)
    create = sqlalchemy.create_engine
    asked = []
    monkeypatch.setattr(sqlalchemy, "create_engine", lambda url, **kw: asked.append(url) or engine)
    with pytest.raises(EnvironmentFault) as caught:
        made.head()
    monkeypatch.setattr(sqlalchemy, "create_engine", create)
    assert asked == [f"postgresql://me:{HIDDEN}@host/desk"]
    assert HIDDEN not in str(caught.value)
    assert "`desk` cannot be reached: no login for me with ${env:PASSWORD} at all" in str(caught.value)


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch):
    monkeypatch.setattr(secrets, "_revealed", {})


def test_a_query_is_given_no_parameters_streams_and_is_rolled_back(monkeypatch):
    said, told = [], {}
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.StaticPool)
    for event in ("commit", "rollback"):
        sqlalchemy.event.listen(engine, event, lambda connection, event=event: said.append(event))

    @sqlalchemy.event.listens_for(engine, "do_execute_no_params")
    def asked(cursor, statement, context):
        said.append(statement)
        told.update(context.execution_options)

    monkeypatch.setattr(sql, "_of_url", lambda sqlalchemy, options, url: engine)
    assert [dict(row.fields) for row in source("postgresql://host/desk").rows()] == [{"n": 1}]
    assert said == ["SELECT 1 AS n", "rollback"]
    assert (told["stream_results"], told["postgresql_readonly"]) == (True, True)
