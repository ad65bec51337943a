"""When two rows are one. What no format reads tells no rows apart: whoever learnt one of them knows the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

from tunewright.digest import digest_json
from tunewright.errors import BadInput
from tunewright.parts.data_source import Row
from tunewright.spec.model import Split


class Sameness(NamedTuple):
    """Rows are equal where these columns hold the same; other columns, as a running number, do not count.

    `columns` are all that any format of a spec reads. So there is one answer for a training and for an evaluation that
    make different examples of the same rows, and both see the same split.
    """

    columns: frozenset[str]
    known_digests: dict[tuple[frozenset[str], int], tuple[Mapping[str, Any], str]] | None = None
    """Where rows are compared more than once: what was worked out of them, by the columns and the row's fields, which
    are kept with it so that no other row can take their place in memory."""

    def beside(self, split: object) -> Sameness:
        """The same without the column that a split goes by: one text at two times is one text."""
        return self._replace(columns=self.columns - {split.group, split.time}) if isinstance(split, Split) else self

    def of(self, row: Row) -> str:
        """A digest, equal for equal rows. Raises `BadInput` where a field holds what JSON cannot."""
        if self.known_digests is None:
            return self._digest(row)
        place = (self.columns, id(row.fields))  # a copy's fields are the row's own
        if place not in self.known_digests:
            self.known_digests[place] = (row.fields, self._digest(row))
        return self.known_digests[place][1]

    def _digest(self, row: Row) -> str:
        try:
            return digest_json({column: value for column, value in row.fields.items() if column in self.columns})
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{row.origin}: a field cannot be compared: {error}", fix="mend the row: fields hold what JSON can hold"
            ) from error

    def known(self, rows: Iterable[Row]) -> frozenset[str]:
        """What to hold other rows against, see `repeats`."""
        return frozenset(map(self.of, rows))

    def repeats(self, rows: Iterable[Row], known: Set[str]) -> list[Row]:
        """Those of the rows that equal a known one."""
        return [row for row in rows if self.of(row) in known]
