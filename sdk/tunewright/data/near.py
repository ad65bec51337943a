"""Texts that are nearly one, and texts that quote another: what a model was shown of the questions that judge it.

    found = near(rows, items)    # each text as its words, see `own`
    found.groups                 # training rows that are nearly one, by their places
    found.matches[3]             # the training rows that are nearly one with the fourth item
    list(quotes(rows, items))    # items that stand within a row, however long that is
    list(parts(rows, items))     # rows that are a large part of an item: a question without its choices

Two texts are near where the Jaccard index |A ∩ B| / |A ∪ B| of their shingles is at least `THRESHOLD` (resemblance in
Broder, On the resemblance and containment of documents, 1997; 0.8 as in Lee et al., Deduplicating training data makes
language models better, ACL 2022). Candidates are found by MinHash and locality-sensitive hashing, then the index itself
is computed from the shingles: what is found is so, and at the threshold a pair is missed once in some 1,800.

Shingles of a short text are its stretches of 4 characters, so that one other word among twenty is still near; those of
a long one are its runs of 3 words. Where one of two texts is short, both are taken by characters.

An item in a long row resembles it little. For that there is containment, |A ∩ B| / |A|, over runs of 5 words. GPT-3
took an item for seen by a run of 8 to 13 words in common (Brown et al., 2020, appendix C), PaLM by 70 % of its runs of
8 (Chowdhery et al., 2022, section 8). Items are few, so this is exact: no hashing, and none is missed.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tunewright.data.own import Words, mostly_unspaced

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, np.dtype[np.uint64]]

THRESHOLD = 0.8
CHARACTERS, UNSPACED_CHARACTERS, RUN = 4, 2, 3
"""Of a shingle: characters, those of scripts without spaces, which say as much as some letters each, and words."""
LONG = 50
"""Words from which on a text is long."""
QUOTED_RUN, QUOTABLE = 5, 8
"""Words of a run by which a quote is known, and the fewest words of an item that is looked for: three are anywhere."""
WHOLE = 20
"""An item of fewer words is quoted whole or not at all: when will it arrive is not when will it expire."""
PART = 0.4
"""The share of an item's runs that a row within it has at least: a question beside the answers to choose from has 0.45
to 0.8 of them, what customers say anyway is less of a long message."""
BANDS, ROWS, SEED = 32, 7, 1
"""A pair is a candidate where all `ROWS` minima of one of `BANDS` bands agree, with probability 1 - (1 - s^7)^32 at a
similarity s: 0.9994 at 0.8, 0.0004 at 0.2."""
MOST = 32
"""Of rows whose band is one, each is held against so many that follow: those of a mass of rows that are all alike would
otherwise take the square of its size."""
AT_ONCE = 10_000
"""Shingles that are hashed at once: 9 MB, however long a row is."""

Kind = Literal["exact", "near"]


class Match(NamedTuple):
    """The row at `place` is one with an item, or near it by this Jaccard index."""

    place: int
    kind: Kind
    similarity: float


@dataclass(frozen=True)
class Found:
    """What `near` finds. Places count from 0 and are in order."""

    equal: Sequence[Sequence[int]]
    """Rows that are equal word by word, two or more each."""
    groups: Sequence[Sequence[int]]
    """Rows that are equal or near to one another, directly or through others of the group; two or more each."""
    matches: Mapping[int, Sequence[Match]]
    """By the place of an item: the rows that are one with it or near it."""


class Quote(NamedTuple):
    """The item at `item` stands in the row at `row`, or the row in it: `share` is that of the item's runs of words."""

    item: int
    row: int
    share: float


class Hit(NamedTuple):
    """The item at `item` stands in the row at `row`: as it is, nearly, `contained` in it, or in large part."""

    item: int
    row: int
    kind: Literal["exact", "near", "contained", "partial"]
    similarity: float


def look_up(own: Sequence[Words], whole: Iterable[Words], items: Sequence[Words]) -> tuple[Found, list[Hit]]:
    """Every way in which an item may stand in a row, the surest of each pair; and what rows are among themselves.

    `own` is what each row asks, `whole` the row with its answer, in which an item may be quoted.
    """
    found = near(own, items)
    hits = {
        (item, match.place): Hit(item, match.place, match.kind, match.similarity)
        for item, matches in found.matches.items()
        for match in matches
    }
    for quote in quotes(whole, items):
        hits.setdefault((quote.item, quote.row), Hit(quote.item, quote.row, "contained", quote.share))
    for part in parts(own, items):
        hits.setdefault((part.item, part.row), Hit(part.item, part.row, "partial", part.share))
    return found, list(hits.values())


def near(rows: Sequence[Words], items: Sequence[Words] = ()) -> Found:
    """Equal and near rows, and the rows that are equal or near to an item. Texts without a word are near to none.

    Equal arguments give equal answers on every machine. A group among masses of rows that are all alike may come apart
    into several, see `MOST`; among the rows that are near to an item nothing is cut.
    """
    shown, asked = _by_text(rows), _by_text(items)
    texts, questions = list(shown), list(asked)
    groups, matches = _Groups(texts), dict[int, set[Match]]()
    for way in _WAYS:
        some, others = way.chosen(texts), way.chosen(questions)
        keys = way.keys(some)
        for one, other in _pairs(keys):
            groups.join_if_near(some[one], some[other])
        for question, places in zip(others, _candidates(keys, way.keys(others)), strict=True):
            for text, value in _near_to(question, [some[place] for place in places]):
                found = [Match(row, "exact" if text == question else "near", value) for row in shown[text]]
                for item in asked[question]:
                    matches.setdefault(item, set()).update(found)
    return Found(
        equal=[places for places in shown.values() if len(places) > 1],
        groups=sorted(
            places
            for members in groups.all()
            if len(places := sorted(place for text in members for place in shown[text])) > 1
        ),
        matches={item: sorted(matches[item]) for item in sorted(matches)},
    )


def quotes(rows: Iterable[Words], items: Sequence[Words]) -> Iterator[Quote]:
    """Items of at least `QUOTABLE` words of whose runs one row has at least `THRESHOLD`, by row; of those of fewer than
    `WHOLE` words, all.

    Where n of k runs must be in the row, one of the k - n + 1 that are rarest among the items is: only these are looked
    up (the prefix filter of Chaudhuri et al., A primitive operator for similarity joins in data cleaning, ICDE 2006).
    """
    runs = {place: _runs(item, QUOTED_RUN) for place, item in enumerate(items) if len(item) >= QUOTABLE}
    often = Counter(run for some in runs.values() for run in some)
    rare: dict[tuple[str, ...], list[int]] = {}
    for place, some in runs.items():
        for run in sorted(some, key=lambda run: (often[run], run))[: len(some) - _enough(some) + 1]:
            rare.setdefault(run, []).append(place)
    for place, row in enumerate(rows):
        there = _runs(row, QUOTED_RUN)
        for item in sorted({item for run in there & rare.keys() for item in rare[run]}):
            common = len(runs[item] & there)
            if common >= _enough(runs[item]):
                yield Quote(item, place, common / len(runs[item]))


def parts(rows: Iterable[Words], items: Sequence[Words]) -> Iterator[Quote]:
    """The other way round, by row: rows of at least `QUOTABLE` words of which an item has as much as a row of a quote,
    and that are at least `PART` of it."""
    runs = [_runs(item, QUOTED_RUN) for item in items]
    having: dict[tuple[str, ...], list[int]] = {}
    for place, some in enumerate(runs):
        for run in some:
            having.setdefault(run, []).append(place)
    for place, row in enumerate(rows):
        if len(row) < QUOTABLE:
            continue
        there = _runs(row, QUOTED_RUN)
        common = Counter(item for run in there & having.keys() for item in having[run])
        for item, count in sorted(common.items()):
            if count >= max(_enough(there), PART * len(runs[item])):
                yield Quote(item, place, count / len(runs[item]))


def _enough(runs: AbstractSet[Any]) -> int:
    if len(runs) <= WHOLE - QUOTED_RUN:
        return len(runs)
    return ceil(THRESHOLD * len(runs) - 1e-9)  # 0.8 × 20 is 16 of them, however it is rounded


def similarity(one: str, other: str) -> float:
    """The Jaccard index of two texts, their words parted by single blanks; 0 where one has none."""
    shingles = _run_shingles if _long(one) and _long(other) else _character_shingles
    return jaccard(shingles(one), shingles(other))


def jaccard(one: AbstractSet[Any], other: AbstractSet[Any]) -> float:
    """|A ∩ B| / |A ∪ B|, 0 for two empty sets."""
    common = len(one & other)
    return common / (len(one) + len(other) - common) if common else 0.0


def _near_to(question: str, texts: Iterable[str]) -> Iterator[tuple[str, float]]:
    for text in texts:
        value = similarity(question, text)
        if value >= THRESHOLD:
            yield text, value


def _by_text(texts: Sequence[Words]) -> dict[str, list[int]]:
    """The places of every text that has a word."""
    found: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        if text:
            found.setdefault(" ".join(text), []).append(place)
    return found


def _length(text: str) -> int:
    return text.count(" ") + 1


def _long(text: str) -> bool:
    return _length(text) >= LONG


def _runs(text: Words, length: int) -> frozenset[tuple[str, ...]]:
    return frozenset(zip(*(text[start:] for start in range(length)), strict=False))


@lru_cache(maxsize=4096)
def _run_shingles(text: str) -> frozenset[tuple[str, ...]]:
    return _runs(text.split(" "), RUN)


@lru_cache(maxsize=4096)
def _character_shingles(text: str) -> frozenset[str]:
    joined = text.replace(" ", "")  # a blank more or less parts no two texts
    width = _width(joined)
    return frozenset(joined[place : place + width] for place in range(max(1, len(joined) - width + 1)))


def _width(joined: str) -> int:
    return UNSPACED_CHARACTERS if mostly_unspaced(joined) else CHARACTERS


class _Groups:
    """Texts, joined pair by pair (union-find)."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._leader = {text: text for text in texts}

    def join_if_near(self, one: str, other: str) -> None:
        """One group of both, where they are near; what is together already is not compared."""
        first, second = self._lead(one), self._lead(other)
        if first != second and similarity(one, other) >= THRESHOLD:
            self._leader[second] = first

    def all(self) -> Iterable[list[str]]:
        """Every group, with one member or more."""
        members: dict[str, list[str]] = {}
        for text in self._leader:
            members.setdefault(self._lead(text), []).append(text)
        return members.values()

    def _lead(self, text: str) -> str:
        while self._leader[text] != text:
            self._leader[text] = self._leader[self._leader[text]]
            text = self._leader[text]
        return text


class _Way(NamedTuple):
    """A way in which texts are compared: which of them, and 32 bits for each of their shingles."""

    takes: Callable[[str], bool]
    hashes: Callable[[str], list[int]]

    def chosen(self, texts: Iterable[str]) -> list[str]:
        return [text for text in texts if self.takes(text)]

    def keys(self, texts: Sequence[str]) -> Numbers:
        """(texts, bands): equal where all minima of a band are.

        The minima are datasketch's. Its index holds a Python set for every band of every text, more than a gigabyte
        for 100,000 of them, where a table of numbers does.
        """
        import numpy as np
        from datasketch import MinHash

        minima = np.empty((len(texts), BANDS * ROWS), dtype=np.uint32)
        nothing = MinHash(BANDS * ROWS, seed=SEED, hashfunc=int, scheme="affine32")
        for place, text in enumerate(texts):
            one, hashes = nothing.copy(), self.hashes(text)
            for start in range(0, len(hashes), AT_ONCE):
                one.update_batch(hashes[start : start + AT_ONCE])
            minima[place] = one.hashvalues
        parted = minima.reshape(len(texts), BANDS, ROWS)
        mixed = np.zeros((len(texts), BANDS), dtype=np.uint64)
        for place in range(ROWS):
            mixed += parted[:, :, place] * np.uint64(_FACTORS[place])
        return mixed


def _pairs(keys: Numbers) -> Iterator[tuple[int, int]]:
    """Candidates among the texts themselves, each once and in order."""
    import numpy as np

    count = len(keys)
    found = np.empty(0, dtype=np.int64)
    for band in keys.T:
        order = np.argsort(band, kind="stable")
        ordered, some = band[order], []
        for step in range(1, min(MOST, count - 1) + 1):
            (same,) = np.nonzero(ordered[step:] == ordered[:-step])
            if not len(same):
                break  # of equal ones, neighbours are
            some.append(order[same] * count + order[same + step])  # a stable order: the first has the smaller place
        found = np.union1d(found, np.concatenate(some)) if some else found
    for pair in found.tolist():
        yield divmod(pair, count)


def _candidates(keys: Numbers, asked: Numbers) -> Iterator[list[int]]:
    """For each that is asked, all that have a band of its own."""
    import numpy as np

    orders = np.argsort(keys, axis=0, kind="stable")
    ordered = np.take_along_axis(keys, orders, axis=0)
    ends = [
        (np.searchsorted(ordered[:, band], asked[:, band]), np.searchsorted(ordered[:, band], asked[:, band], "right"))
        for band in range(BANDS)
    ]
    for place in range(len(asked)):
        some = [orders[start[place] : end[place], band] for band, (start, end) in enumerate(ends)]
        yield np.unique(np.concatenate(some)).tolist()


_FACTORS = (
    0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F,
    0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3,
)  # fmt: skip
"""Odd and without a pattern, one for each place: sums of products modulo 2^64 tell apart what differs anywhere."""


def _character_hashes(text: str) -> list[int]:
    import numpy as np

    joined = text.replace(" ", "")
    signs = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return _hashes(signs.astype(np.uint64), _width(joined))


def _run_hashes(text: str) -> list[int]:
    import numpy as np

    return _hashes(np.fromiter(map(_word_hash, text.split(" ")), dtype=np.uint64), RUN)


@lru_cache(maxsize=1 << 20)
def _word_hash(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))  # Python's own differs from process to process


def _hashes(units: Numbers, width: int) -> list[int]:
    """For each shingle of `width` units; one of all of them where there are fewer."""
    import numpy as np

    width = min(width, len(units))
    count = len(units) - width + 1
    mixed = np.zeros(count, dtype=np.uint64)
    for place in range(width):
        mixed += units[place : place + count] * np.uint64(_FACTORS[place])
    found: list[int] = (mixed >> np.uint64(32)).tolist()
    return found


_WAYS = (
    _Way(lambda text: _length(text) < LONG / THRESHOLD, _character_hashes),  # a longer one is near to no short one
    _Way(_long, _run_hashes),
)
