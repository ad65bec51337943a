"""A database's URL in a spec: plain text, but for what must be secret."""

from __future__ import annotations

import re
from urllib.parse import quote

from pydantic import GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from tunewright.parts.base import Secret
from tunewright.secrets import REFERENCE, reveal

# More than SQLAlchemy reads as a password: one in a URL whose kind is missing, or with an `@` in it, is one, too.
PASSWORD = re.compile(r"^(?:[\w+]+://|(?![\w+]+://))[^:/@]*:(?P<password>.*)@", re.DOTALL)
AMONG_ARGUMENTS = re.compile(
    r"(?:^|[?&;_]|%3B)\w*(?:passw(?:or)?d|pwd|passphrase|secret|token)\s*(?:=|%3D)", re.IGNORECASE
)
ENDS = re.compile(r"[&;]|%3B", re.IGNORECASE)


class DatabaseUrl(Secret):
    """`postgresql+psycopg://reader:${env:PASSWORD}@db.acme.com/desk`: a password that is typed is refused.

    Serializes as written. `reveal` reads the variables and raises `EnvironmentFault` where one is not set.
    """

    def reveal(self) -> str:
        """The URL with its variables' values. Within it, what a URL reads as a sign of its own is escaped."""
        return REFERENCE.sub(lambda found: self._value(found[0], found.start()), self.written)

    @staticmethod
    def _value(reference: str, at: int) -> str:
        return reveal(reference) if at == 0 else quote(reveal(reference), safe="")

    @property
    def database(self) -> str:
        """The database's name, which is no secret; that of the variable which holds all of the URL."""
        whole = REFERENCE.match(self.written)
        if whole:
            return whole[1]
        return self.written.partition("?")[0].rpartition("@")[2].rstrip("/").rpartition("/")[2] or "database"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def read(value: object) -> DatabaseUrl:
            if isinstance(value, cls):
                return value
            if not isinstance(value, str):
                raise PydanticCustomError("url_type", "A URL is text")
            if _holds_secret(value):
                raise PydanticCustomError("secret_in_spec", "A secret never stands in a spec")
            if not REFERENCE.match(value) and "://" not in value:
                raise ValueError("a URL begins with the database's kind, as in `postgresql+psycopg://host/name`")
            if value.lower().startswith("sqlite"):
                raise ValueError("a SQLite file is named by `path`, relative to the spec")
            return cls(value)

        return core_schema.json_or_python_schema(
            json_schema=core_schema.str_schema(min_length=1),
            python_schema=core_schema.no_info_plain_validator_function(read),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.written),
        )


def _holds_secret(url: str) -> bool:
    """Whether a password stands in the URL itself, before the host or among its arguments."""
    masked = REFERENCE.sub("\0", url)  # a reference has signs that a URL reads as its own
    before, arguments = PASSWORD.match(masked), masked.partition("?")[2]
    found = [before["password"]] if before else []
    found += [ENDS.split(arguments[name.end() :], maxsplit=1)[0] for name in AMONG_ARGUMENTS.finditer(arguments)]
    return any(value.strip("\0") for value in found)
