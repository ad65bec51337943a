"""Rows that judge a model and were shown to it: what is claimed on them, or chosen by them, says less than it seems.

What `data.test` splits off was promised not to be learnt, so a stage that learns it all the same is refused. Files that
repeat some rows of each other are how public data come: of these it is told which, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.data.rows import Realised
from tunewright.data.same import Sameness
from tunewright.parts import DataSource
from tunewright.parts.base import Finding
from tunewright.parts.data_source import Row
from tunewright.pipeline.rows import AllRows, rows_of
from tunewright.resolve.resolved import Training
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
    """Rows that judge, and the notion of equality that they were taken out by."""

    def __init__(self, name: str, rows: Sequence[Row], same: Sameness) -> None:
        self.name, self.rows, self.same = name, rows, same

    def among(
        self, sources: Sequence[DataSource], found: Sequence[Realised], shown: str, why: str, refused: bool = False
    ) -> Iterator[Repeat]:
        """Those that are among the rows of each source."""
        for source, one in zip(sources, found, strict=True):
            equal = self.same.repeats(self.rows, self.same.known(one.rows)) if self.rows else []
            if equal:
                yield Repeat(
                    self.name, len(self.rows), len(equal), equal[0].origin, source, shown, why, refused
                )  # fmt: skip


def repeats(found: AllRows) -> list[Repeat]:
    """Test rows that are learnt or chosen by, then validation rows that were learnt by the time they choose."""
    return [*_test_rows(found), *_validation_rows(found)]


def _test_rows(found: AllRows) -> Iterator[Repeat]:
    for name, claims, rows in found.claimed:
        split = claims.split
        called = name.replace("test", "test rows", 1)
        judging = _Judging(called, rows_of(rows), found.same(claims.read).beside(split))
        for training, learnt in found.learnt:
            yield from judging.among(training.train, learnt.train, _learns(training), LEARNT, split is not None)
            yield from judging.among(_chosen_by(training), learnt.validation, _chooses(training), CHOSEN_BY)


def _validation_rows(found: AllRows) -> Iterator[Repeat]:
    """What a later stage learns changes nothing: the choice is made by then."""
    for place, (training, chosen_by) in enumerate(found.learnt):
        called = f"validation rows{f' of stage `{training.name}`' if training.name else ''}"
        same = found.same(training.read).beside(training.validation)
        judging = _Judging(called, rows_of(chosen_by.validation), same)
        for earlier, learnt in found.learnt[: place + 1]:
            yield from judging.among(earlier.train, learnt.train, _learns(earlier), CHOOSING)


def _chosen_by(training: Training) -> Sequence[DataSource]:
    return training.train if isinstance(training.validation, Split) else training.validation


def _learns(training: Training) -> str:
    return f"stage `{training.name}` learns these" if training.name else "these are learnt"


def _chooses(training: Training) -> str:
    return f"stage `{training.name}` is chosen by these" if training.name else "these choose among checkpoints"
