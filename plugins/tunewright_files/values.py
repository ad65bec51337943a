"""From what a library read to a row's fields: only what JSON can hold, or the reason why not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from tunewright.parts.base import Json
from tunewright.parts.data_source import Broken, Row


class Unreadable(NamedTuple):
    """In the place of a value: why there is none, and the column in its text if that is known."""

    why: str
    column: int | None = None


def _refuse(constant: str) -> Json:
    raise ValueError(f"`{constant}` is no number of JSON: write null")


DECODER = json.JSONDecoder(parse_constant=_refuse)


def why_not(error: ValueError | RecursionError) -> Unreadable:
    """What `DECODER` stumbled over, in words."""
    if isinstance(error, json.JSONDecodeError):
        return Unreadable(f"not JSON: {error.msg}", error.colno)
    if isinstance(error, RecursionError):
        return Unreadable("nested too deeply")
    return Unreadable(f"not readable: {error}")  # Python reads no number of thousands of digits


def row_of(origin: str, value: Json) -> Row | Broken:
    """A row of a JSON object; of anything else, what is wrong with it."""
    if isinstance(value, Unreadable):
        return Broken(origin, value.why)
    if not isinstance(value, dict):
        return Broken(origin, "not a JSON object")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Broken(origin, "half of a surrogate pair: a character that was cut in two")
    return Row(origin, origin, value)


def row_of_values(origin: str, values: Mapping[str, Any]) -> Row | Broken:
    """A row of a library's values, see `plain`; broken where one is nothing that JSON can hold."""
    fields = {}
    for column, value in values.items():
        try:
            fields[column] = plain(value)
        except ValueError as error:
            return Broken(origin, f"`{column}` holds {error}")
    return Row(origin, origin, fields)


def plain(value: Any) -> Json:
    """A value as JSON can hold it. Raises `ValueError` that says what it is where JSON holds nothing like it.

    Dates and times become ISO 8601, durations seconds, decimals their digits as text, so that none is lost. A float
    that is no number is a missing value, as in pandas: it becomes None.
    """
    match value:
        case None | str() | int():  # a bool is an int
            return value
        case float() if math.isinf(value):
            raise ValueError("an infinite number")
        case float():
            return None if math.isnan(value) else value
        case Mapping():
            return {str(plain(key)): plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case date() | time():  # a datetime is a date
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return None if value.is_nan() else f"{value:f}"
        case UUID():
            return str(value)
        case bytes() | bytearray() | memoryview():
            raise ValueError("bytes, not text")
    raise ValueError(f"a value of type {type(value).__name__}, which JSON cannot hold")
