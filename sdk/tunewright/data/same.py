"""When two rows are one. What no format reads tells no rows apart: whoever learnt one of them knows the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from tunewright.digest import digest_json
from tunewright.errors import BadInput
from tunewright.parts import PromptFormat
from tunewright.parts.data_source import Row
from tunewright.spec.model import Split

Known = dict[tuple[int, frozenset[str], int], tuple[PromptFormat, Mapping[str, Any], str]]
"""What was worked out of rows, by the format, the columns left out and the row's fields, in place; format and fields
are kept with it, so that no other can take their place in memory."""


class Sameness(NamedTuple):
    """Rows are one where any of these formats reads the same from both; other columns, as a running number, do not
    count.

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
        """What each format reads, as a digest: rows are one that share any.

        Raises `BadInput` where a field holds what JSON cannot.
        """
        return tuple(f"{place} {self._found(form, row)}" for place, form in enumerate(self.formats))

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

    def _found(self, form: PromptFormat, row: Row) -> str:
        if self.known_digests is None:
            return self._digest(form, row)
        place = (id(form), self.without, id(row.fields))  # a copy's fields are the row's own
        if place not in self.known_digests:
            self.known_digests[place] = (form, row.fields, self._digest(form, row))
        return self.known_digests[place][2]

    def _digest(self, form: PromptFormat, row: Row) -> str:
        columns = form.columns().keys() - self.without
        try:
            return digest_json({column: value for column, value in row.fields.items() if column in columns})
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{row.origin}: a field cannot be compared: {error}", fix="mend the row: fields hold what JSON can hold"
            ) from error
