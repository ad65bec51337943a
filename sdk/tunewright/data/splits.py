"""Rows are parted: those that are learnt, those that choose among checkpoints, those that claims are made on.

A model that is judged on what it was shown looks better than it is. So equal rows never stand on two sides, whichever
way the rest is parted: by fraction, by group (all rows of a customer on one side) or by time (learnt from the past,
judged on what came later). Rows are equal as `Sameness` says.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from datetime import date, datetime
from fractions import Fraction
from itertools import accumulate
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

from tunewright.data.same import Sameness, written
from tunewright.digest import digest_json
from tunewright.errors import BadInput
from tunewright.parts.base import Json
from tunewright.parts.data_source import Row
from tunewright.spec.model import Split

T = TypeVar("T")

NUMBER = re.compile(r"[+-]?\d{1,400}(\.\d{1,400})?([eE][+-]?\d{1,3})?", re.ASCII)
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(?P<zone>Z|[+-]\d\d(:?\d\d)?)?", re.ASCII)


class Taken(NamedTuple):
    """`dropped` rows are on neither side: they would be taken, but equal a row that is kept. All in the rows' order."""

    kept: list[Row]
    taken: list[Row]
    dropped: list[Row]


class Side(NamedTuple):
    """The rows of a side, and those that would be there if they did not equal a row that is kept."""

    rows: list[Row]
    dropped: list[Row]


class Parts(NamedTuple, Generic[T]):
    """What is learnt, what chooses among checkpoints, what claims are made on."""

    train: T
    validation: T
    test: T


def part(
    train_rows: Sequence[Row], validation: Split | None, test: Split | None, seed: int, same: Sameness
) -> Parts[Side]:
    """Take out the test rows, then of the rest the validation rows; a side without a split is empty.

    `validation.fraction` is a share of what is left once the test rows are gone. A pure function of its arguments.
    Raises `BadInput` that names the split.
    """
    rest, sides = list(train_rows), {}
    for name, split in (("test", test), ("validation", validation)):
        sides[name] = Side([], [])
        if split is not None:
            rest, taken, dropped = _named(name, rest, split, seed, same)
            sides[name] = Side(taken, dropped)
    return Parts(Side(rest, []), sides["validation"], sides["test"])


def _named(name: str, rows: Sequence[Row], split: Split, seed: int, same: Sameness) -> Taken:
    try:
        return take_out(rows, split, seed, same)
    except BadInput as error:
        raise BadInput(f"the {name} split: {error.message}", fix=error.fix) from error


def take_out(rows: Sequence[Row], split: Split, seed: int, same: Sameness) -> Taken:
    """Part the rows by a split; what is taken out is as close to `split.fraction` of them as whole groups allow.

    By fraction, equal rows stay together; which are taken follows from the seed. By group, rows with equal values of
    the column stay together. By time, the rows with the latest values are taken whatever the seed, those of one time
    together. What two groups or two times share is no test of what was learnt: of the rows taken out by group or time,
    those that equal a kept one but for that column are dropped.

    Raises `BadInput` where a side would be empty, and at a row whose group or time is missing or cannot be read.
    """
    if split.time is not None:
        out = _latest(rows, split.time, split.fraction)
    else:
        together = _together(rows, split.group, same)
        if len(together) < 2:
            raise BadInput(
                f"{_all_one(rows, split.group)}, so they cannot be parted",
                fix="name rows of their own: `[{kind: …, path: …}]`, or add rows",
            )
        out = set(_drawn(together, Fraction(str(split.fraction)) * len(rows), seed))
    return _parted(rows, out, split, same)


def _parted(rows: Sequence[Row], out: Set[int], split: Split, same: Sameness) -> Taken:
    alike = same.beside(split)
    kept = [row for place, row in enumerate(rows) if place not in out]
    known = alike.known(kept)
    found = Taken(kept, [], [])
    for place in sorted(out):
        (found.dropped if alike.equals(rows[place], known) else found.taken).append(rows[place])
    if not found.taken:
        by = f"the {len(out)} rows to be taken out by `{split.group or split.time}`"
        raise BadInput(
            f"each of {by} equals a kept one in all else that is read",
            fix="raise `fraction`, or name rows of their own: `[{kind: …, path: …}]`",
        )
    return found


def _all_one(rows: Sequence[Row], column: str | None) -> str:
    if len(rows) < 2:
        return f"there {'is one row' if rows else 'are no rows'}"
    return f"all {len(rows)} rows {'are equal in all that is read' if column is None else f'have one `{column}`'}"


def _together(rows: Sequence[Row], column: str | None, same: Sameness) -> list[list[int]]:
    """Places of rows that may not be parted, each list in order: those of one group, or equal rows."""
    if column is None:
        return same.together(rows)
    found: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        found.setdefault(written(_value(row, column)), []).append(place)
    return list(found.values())


def _value(row: Row, column: str) -> Json:
    value = row.fields.get(column)
    if value is None or value == "":
        lacks = "has no value in" if column in row.fields else "has no"
        raise BadInput(f"{row.origin}: the row {lacks} column `{column}`", fix="fill it in, or leave the row out")
    return value


def _drawn(together: list[list[int]], wanted: Fraction, seed: int) -> Iterator[int]:
    """In an order drawn by the seed, each component that brings the count closer to what is wanted."""
    order = list(together)
    random.Random(digest_json(["split", seed])).shuffle(order)
    taken: list[list[int]] = []
    count = 0
    for places in order:
        if abs(count + len(places) - wanted) < abs(count - wanted):
            taken.append(places)
            count += len(places)
    if not taken:
        taken.append(min(order, key=len))
    elif len(taken) == len(order):
        taken.remove(min(taken, key=len))
    for places in taken:
        yield from places


def _latest(rows: Sequence[Row], column: str, fraction: float) -> set[int]:
    """Places of the latest rows, those of one time together."""
    times = _times(rows, column)
    sizes = Counter(times)
    if len(sizes) < 2:
        raise BadInput(
            f"{_all_one(rows, column)}, so none is later than another",
            fix="name another column, or part by `fraction` alone",
        )
    wanted = Fraction(str(fraction)) * len(rows)
    latest = sorted(sizes, reverse=True)[:-1]  # the earliest is always kept
    counts = accumulate(sizes[time] for time in latest)
    _, since = min(zip((abs(count - wanted) for count in counts), latest, strict=True), key=itemgetter(0))
    return {place for place, time in enumerate(times) if time >= since}


def _times(rows: Sequence[Row], column: str) -> list[Any]:
    """Every row's time, all of one kind: only then can they be ordered."""
    found, first = [], dict[str, Row]()
    for row in rows:
        kind, time = _time(row, column)
        first.setdefault(kind, row)
        if len(first) > 1:
            (one, a), (other, b) = first.items()
            shown = f"{a.origin} holds {one} ({a.fields[column]}), {b.origin} holds {other} ({b.fields[column]})"
            raise BadInput(f"`{column}` is not of one kind: {shown}", fix="write all in one form")
        found.append(time)
    return found


def _time(row: Row, column: str) -> tuple[str, Any]:
    value = _value(row, column)
    try:
        found = _read_time(value)
    except (ValueError, OverflowError):  # as the 30th of February
        found = None
    if found is None:
        shown = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:60]}…"
        raise BadInput(
            f"{row.origin}: `{column}` is {shown}: no date, time or number",
            fix="write it as 2026-11-25, 2026-11-25T09:00:00Z or a number",
        )
    return found


def _read_time(value: Json) -> tuple[str, Any] | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return ("a number", value) if math.isfinite(value) else None
    text = value if isinstance(value, str) else ""
    if NUMBER.fullmatch(text):
        return "a number", Fraction(text)
    if DATE.fullmatch(text):
        return "a date", date.fromisoformat(text)
    if zoned := TIME.fullmatch(text):
        kind = "a time with a zone" if zoned["zone"] else "a time without a zone"
        return kind, datetime.fromisoformat(text)
    return None
