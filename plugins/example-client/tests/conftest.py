import sqlite3
from contextlib import closing
from pathlib import Path

import pytest


@pytest.fixture
def database(tmp_path_factory):
    """A fresh tickets.db."""
    path = tmp_path_factory.mktemp("database") / "tickets.db"
    sql = Path(__file__).parents[1] / "tickets.sql"
    with closing(sqlite3.connect(path)) as made:
        made.executescript(sql.read_text("utf-8"))
    return path
