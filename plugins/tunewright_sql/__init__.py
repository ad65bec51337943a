"""Rows from a database, by SQLAlchemy. Nothing but the hooks' marker is imported here: every command does."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {"data_source/sql": "tunewright_sql.sql:Sql"}
