"""When two rows are one: the same is learnt of both, whatever else their files hold and however they write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from tunewright.digest import digest_json
from tunewright.errors import BadInput
from tunewright.parts import PromptFormat
from tunewright.parts.base import Json
from tunewright.parts.data_source import Row, reads
from tunewright.spec.model import Split

Known = dict[tuple[int, frozenset[str], int], tuple[PromptFormat, Mapping[str, Any], str | None]]
"""What was worked out of rows, by the format, the columns left out and the row's fields, in place; format and fields
are kept with it, so that no other can take their place in memory."""


CANNOT = (BadInput, LookupError, TypeError, ValueError, AttributeError)
"""What a format raises at a row that it was not made for: of another source, or with a stand-in for a value."""
STAND_IN = "0"  # of a column that is left out: a text, a number, and in most formats a value like any other


class Sameness(NamedTuple):
    """Rows are one of which these formats make an example in common: a csv's text `5` and a jsonl's number 5 where they
    become the same text. What no format reads, as a running number, does not count.

    The formats are those by which the rows are learnt. A preference and a plain example may be made of the same rows:
    two that differ in the worse answer alone are two pairs, and one example that the other training learns.
    """

    formats: tuple[PromptFormat, ...]
    without: frozenset[str] = frozenset()
    """Columns that are left out, though a format reads them."""
    known_digests: Known | None = None
    """Where rows are compared more than once."""

    def beside(self, split: object) -> Sameness:
        """The same without the column that a split goes by: one text at two times is one text."""
        by = {split.group, split.time} - {None} if isinstance(split, Split) else ()
        return self._replace(without=self.without.union(filter(None, by)))

    def of(self, row: Row) -> tuple[str, ...]:
        """What each format makes of the row, as a digest: rows are one that share any. Of a row of which a format makes
        nothing there is none of it: one that is learnt so is refused by its name when it is prepared.

        Raises `BadInput` where it makes what JSON cannot hold.
        """
        return tuple(digest for form in self.formats if (digest := self._found(form, row)) is not None)

    def known(self, rows: Iterable[Row]) -> frozenset[str]:
        """What to hold other rows against, see `equals`."""
        return frozenset(digest for row in rows for digest in self.of(row))

    def equals(self, row: Row, known: Set[str]) -> bool:
        """Whether the row is one with a known one."""
        return any(digest in known for digest in self.of(row))

    def repeats(self, rows: Iterable[Row], known: Set[str]) -> list[Row]:
        """Those of the rows that equal a known one."""
        return [row for row in rows if self.equals(row, known)]

    def together(self, rows: Sequence[Row]) -> list[list[int]]:
        """Places of rows that are one, also by way of a third; each list in order, the lists by their first row."""
        above = list(range(len(rows)))  # of each place an earlier one that it is one with, or itself

        def first(place: int) -> int:
            while above[place] != place:
                above[place] = place = above[above[place]]
            return place

        seen: dict[str, int] = {}
        for place, row in enumerate(rows):
            for digest in self.of(row):
                ends = sorted((first(place), first(seen.setdefault(digest, place))))
                above[ends[1]] = ends[0]
        found: dict[int, list[int]] = {}
        for place in range(len(rows)):
            found.setdefault(first(place), []).append(place)
        return list(found.values())

    def _found(self, form: PromptFormat, row: Row) -> str | None:
        left_out = self.without.intersection(form.columns())
        if self.known_digests is None:
            return self._digest(form, row, left_out)
        place = (id(form), left_out, id(row.fields))  # a copy's fields are the row's own
        if place not in self.known_digests:
            self.known_digests[place] = (form, row.fields, self._digest(form, row, left_out))
        return self.known_digests[place][2]

    def _digest(self, form: PromptFormat, row: Row, left_out: frozenset[str]) -> str | None:
        made = _made(form, {**row.fields, **dict.fromkeys(left_out, STAND_IN)} if left_out else row.fields)
        if made is None and left_out and _made(form, row.fields):  # nothing can stand in, as for a conversation
            made = [written(row.fields.get(column)) for column in sorted(form.columns().keys() - left_out)]
        try:
            return None if made is None else digest_json(made)
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{row.origin}: a field cannot be compared: {error}", fix="mend the row: fields hold what JSON can hold"
            ) from error


def _made(form: PromptFormat, fields: Mapping[str, Any]) -> list[Any] | None:
    """The example as plain data; None where there is none."""
    try:
        example = form.example(fields)
    except CANNOT:
        return None
    return [type(example).__name__, *example]


def written(value: Json) -> str:
    """A value, whatever its source: a csv's text `7` and a jsonl's number 7 are one customer."""
    return digest_json(value) if isinstance(value, (list, dict)) else reads(value)
