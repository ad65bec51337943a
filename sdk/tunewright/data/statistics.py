"""What a training is given, counted: rows and tokens of each source, classes, lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunewright.data.mask import length
from tunewright.data.rows import Realised
from tunewright.parts.prompt_format import AnyExample, Feedback, RowKind
from tunewright.parts.trainer import AnyRow

MOST_CLASSES = 50
LONGEST_CLASS = 60  # characters: a longer answer is a text, not a class
MOST_BINS = 10
WANTED, UNWANTED = "wanted", "not wanted"


@dataclass(frozen=True)
class SourceCount:
    """One source in the mixture. Shares are of 1; `tokens` and its share are None where tokens are not counted."""

    name: str
    read: int
    kept: int
    set_aside: int
    given: int
    copies: int
    share_of_rows: float
    tokens: int | None
    share_of_tokens: float | None


@dataclass(frozen=True)
class ClassCount:
    """One answer among few, and how many rows have it; the share is of 1."""

    answer: str
    rows: int
    share: float


@dataclass(frozen=True)
class Bin:
    """Rows of `low` to `high` tokens, both included."""

    low: int
    high: int
    rows: int


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens. `p50` and `p95` are the lengths of rows, by nearest rank.

    A pair's length is that of its longer half with the prompt: what a limit is held against, and not what is read of
    it. `over` counts rows over the limit, `share_over` is of 1; both are None where rows are packed and there is none.
    """

    p50: int
    p95: int
    longest: int
    limit: int
    over: int | None
    share_over: float | None
    bins: tuple[Bin, ...]


def count_sources(sources: Sequence[Realised], tokens: Sequence[int] | None = None) -> list[SourceCount]:
    """Each source's part of the mixture; `tokens` are those of each source, in the same order."""
    rows = sum(one.given for one in sources)
    counted = tokens if tokens is not None else [None] * len(sources)
    total = sum(tokens or ())
    return [
        SourceCount(
            one.name, one.read, one.kept, len(one.set_aside), one.given, one.copies, _share(one.given, rows),
            count, None if count is None else _share(count, total),
        )
        for one, count in zip(sources, counted, strict=True)
    ]  # fmt: skip


def class_of(example: AnyExample) -> str:
    """What a row's class would be: its answer, or of a feedback whether the completion was wanted."""
    if isinstance(example, Feedback):
        return WANTED if example.label else UNWANTED
    return example.answer.strip()


def classes_of(makes: RowKind, examples: Iterable[AnyExample]) -> tuple[ClassCount, ...] | None:
    """The classes of rows of a kind; None where it has no answers, or they are texts rather than classes."""
    return None if makes == "text" else balance(map(class_of, examples))


def balance(classes: Iterable[str]) -> tuple[ClassCount, ...] | None:
    """The classes, the largest first; None where the answers are texts rather than classes.

    They are classes if there are at most 50, each of at most 60 characters, with two rows each on average.
    """
    found = Counter(classes)
    rows = found.total()
    if not found or len(found) > min(MOST_CLASSES, rows / 2) or max(map(len, found)) > LONGEST_CLASS:
        return None
    ordered = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    return tuple(ClassCount(answer, count, count / rows) for answer, count in ordered)


def lengths(rows: Sequence[AnyRow], limit: int, *, packed: bool = False) -> Lengths:
    """How long the rows are, of which there is at least one."""
    found = sorted(map(length, rows))
    over = None if packed else sum(count > limit for count in found)
    share = None if over is None else over / len(found)
    return Lengths(_rank(found, 50), _rank(found, 95), found[-1], limit, over, share, _bins(found))


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0


def _rank(ordered: Sequence[int], percent: int) -> int:
    """The smallest length that `percent` of the rows do not exceed."""
    return ordered[-(-len(ordered) * percent // 100) - 1]


def _bins(ordered: Sequence[int]) -> tuple[Bin, ...]:
    """At most ten of one width, each beginning at a multiple of it, from the shortest row's to the longest row's."""
    low, high = ordered[0], ordered[-1]
    width = max(1, (high - low) // MOST_BINS)
    while high // width - low // width >= MOST_BINS:
        width += 1
    counts = Counter(count // width for count in ordered)
    places = range(low // width, high // width + 1)
    return tuple(Bin(place * width, place * width + width - 1, counts[place]) for place in places)
