"""Whether a query is one statement that reads: seen before a database is asked.

It is the first of two locks. The second is the database's own: SQLite is opened read-only, elsewhere the transaction
is read-only where the database knows that, and always rolled back.
"""

from __future__ import annotations

import re

TOKEN = re.compile(
    r"""
    (?P<aside>  # comments, texts, quoted names
        --[^\n]* | /\*.*?\*/
        | '(?:[^']|'')*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
        | "(?:[^"]|"")*" | `[^`]*` | \[[^\]]*\]
    )
    | (?P<word> \w+ )
    | (?P<end> ; )
    """,
    re.DOTALL | re.VERBOSE,
)
READING = frozenset({"select", "with", "values", "table"})
WRITING = frozenset(
    {"insert", "update", "delete", "merge", "into"}
)  # a WITH can hold them, SELECT … INTO makes a table


def reading(query: str) -> str:
    """The query, if it reads and does nothing else. Raises `ValueError`."""
    if "\0" in query:
        raise ValueError("a NUL character stands in the query")
    tokens = [token for token in TOKEN.finditer(query) if not token["aside"]]
    words = [token["word"].lower() for token in tokens if token["word"]]
    if not words or words[0] not in READING:
        first = words[0].upper() if words else "nothing"
        raise ValueError(
            f"a query begins with SELECT or WITH, this one with {first}: rows are read, nothing else is done"
        )
    for word in words:
        if word in WRITING:
            raise ValueError(
                f"the query says {word.upper()}: it may only read (a column of that name stands in quotes)"
            )
    ends = next((place for place, token in enumerate(tokens) if token["end"]), len(tokens))
    if any(token["word"] for token in tokens[ends:]):
        raise ValueError("the query is more than one statement: only the rows of one are read")
    return query
