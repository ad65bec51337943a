"""Rows that judge a model and were shown to it: what is claimed on them, or chosen by them, says less than it seems.

What `data.test` splits off was promised not to be learnt, so a stage that learns it all the same is refused. Files that
repeat some rows of each other are how public data come: of these it is told which, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.data.rows import Realised
from tunewright.parts import DataSource
from tunewright.parts.base import Finding
from tunewright.pipeline.rows import AllRows, rows_of
from tunewright.resolve.resolved import Claims, Training
from tunewright.spec.model import Split

LEARNT = "a claim on them is none on unseen rows"
CHOSEN_BY = "a claim on them is one on rows that the weights were chosen by"
CHOOSING = "the loss on them is lower than on unseen rows, and chooses the weights"


@dataclass(frozen=True)
class Repeat:
    """`count` of the `rows` rows that judge equal rows of a source that was shown; the first of them is `first`."""

    judging: str
    rows: int
    count: int
    first: str
    source: DataSource
    shown: str
    why: str
    refused: bool

    def __str__(self) -> str:
        return f"{self._what()}: {self.why}; leave them out of one of the two"

    def finding(self) -> Finding:
        """Of one that is refused."""
        fix = "leave them out of it, or give `data.test` its own source"
        return Finding("test-rows-learnt", f"{self._what()}: claims would be of learnt rows", suggestion=fix)

    def to_json(self) -> dict[str, Any]:
        """What is printed and kept of it."""
        counts = {"judging": self.judging, "rows": self.rows, "count": self.count, "first": self.first}
        return {**counts, "source": self.source.name, "message": str(self)}

    def _what(self) -> str:
        return (
            f"{self.count:,} of {self.rows:,} {self.judging}, the first {self.first}, equal rows of "
            f"`{self.source.name}` in all that is read, and {self.shown}"
        )


class _Judging:
    """The validation rows of a training, or rows that claims are made on."""

    def __init__(self, name: str, judged: Training | Claims, rows: Sequence[Realised], every: AllRows) -> None:
        self.name, self.judged, self.rows, self.every = name, judged, rows_of(rows), every
        self.refused = isinstance(judged, Claims) and judged.split is not None

    def learnt_by(self, training: Training, found: Sequence[Realised], why: str) -> Iterator[Repeat]:
        """Those that are among the rows of each source that a training learns."""
        return self._among(training, zip(training.train, found, strict=True), _learns(training), why, self.refused)

    def choosing(self, training: Training, found: Sequence[Realised], why: str) -> Iterator[Repeat]:
        """Those that are among the rows of each source that chooses among its checkpoints."""
        held = training.train if isinstance(training.validation, Split) else training.validation
        return self._among(training, zip(held, found, strict=True), _chooses(training), why)

    def _among(
        self,
        training: Training,
        found: Iterable[tuple[DataSource, Realised]],
        shown: str,
        why: str,
        refused: bool = False,
    ) -> Iterator[Repeat]:
        same, rows = self.every.same(self.judged, training), self.rows
        for source, one in found:
            equal = same.repeats(rows, same.known(one.rows)) if rows else []
            if equal:
                yield Repeat(self.name, len(rows), len(equal), equal[0].origin, source, shown, why, refused)


def repeats(found: AllRows) -> list[Repeat]:
    """Test rows that are learnt or chosen by, then validation rows that were learnt by the time they choose."""
    return [*_test_rows(found), *_validation_rows(found)]


def _test_rows(found: AllRows) -> Iterator[Repeat]:
    for name, claims, rows in found.claimed:
        judging = _Judging(name.replace("test", "test rows", 1), claims, rows, found)
        for training, learnt in found.learnt:
            yield from judging.learnt_by(training, learnt.train, LEARNT)
            yield from judging.choosing(training, learnt.validation, CHOSEN_BY)


def _validation_rows(found: AllRows) -> Iterator[Repeat]:
    """What a later stage learns changes nothing: the choice is made by then."""
    for place, (training, chosen_by) in enumerate(found.learnt):
        called = f"validation rows{f' of stage `{training.name}`' if training.name else ''}"
        judging = _Judging(called, training, chosen_by.validation, found)
        for earlier, learnt in found.learnt[: place + 1]:
            yield from judging.learnt_by(earlier, learnt.train, CHOOSING)


def _learns(training: Training) -> str:
    return f"stage `{training.name}` learns these" if training.name else "these are learnt"


def _chooses(training: Training) -> str:
    return f"stage `{training.name}` is chosen by these" if training.name else "these choose among checkpoints"
