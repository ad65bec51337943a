"""What rows of token ids begin with in common, as a tree: found by sorting the rows and comparing neighbours.

Linear in the tokens but for the sorting, and without Python for each token.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ids = Sequence[int] | npt.NDArray[np.integer[Any]]

IDS = ">u4"
"""Big-endian, so that rows compare as their bytes do: a sort of bytes is one `memcmp` a pair."""


class Segment(NamedTuple):
    """The tokens `begin:end` of each of its rows, which are the same, as is all before them."""

    begin: int
    end: int
    rows: list[int]
    """Places of two rows or more, in the order in which the tree has them."""
    parent: int | None
    """Place of the segment that ends where this one begins; None where this one begins at 0."""


def ordered(rows: Sequence[Ids]) -> list[int]:
    """Places of the rows by their tokens: rows that begin alike are neighbours."""
    import numpy as np  # late: the base install has none

    keys = [np.asarray(row, dtype=IDS).tobytes() for row in rows]
    return sorted(range(len(rows)), key=keys.__getitem__)


def segments(rows: Sequence[Ids], least: int) -> list[Segment]:
    """The tree's inner nodes, a parent before its children and these in the rows' order: depth first.

    A segment has at least `least` tokens, one or more: what fewer tokens would tell apart stays with the rows below.
    What is not in a segment is a row's own; a row that others begin with may have nothing of its own.
    """
    import numpy as np

    if least < 1:
        raise ValueError(f"a segment of {least} tokens is none")
    order = ordered(rows)
    ids = [np.asarray(rows[place], dtype=IDS) for place in order]
    common = [_common(one, other) for one, other in pairwise(ids)]  # of the row in this place and the next
    found: list[Segment] = []
    pending: list[tuple[int, int, int, int | None]] = []
    pending += [(*run, 0, None) for run in _runs(common, 0, len(order), least)][::-1]
    while pending:
        first, last, begin, parent = pending.pop()
        end = min(common[first : last - 1])
        found.append(Segment(begin, end, order[first:last], parent))
        below = _runs(common, first, last, end + least)
        pending += [(*run, end, len(found) - 1) for run in below][::-1]  # the last one is taken up first
    return found


def _runs(common: Sequence[int], first: int, last: int, least: int) -> Iterator[tuple[int, int]]:
    """Spans of two or more of the sorted rows `first:last`, in each of which neighbours share `least` tokens."""
    begin = first
    for place in range(first, last):
        if place == last - 1 or common[place] < least:
            if place > begin:
                yield begin, place + 1
            begin = place + 1


def _common(one: npt.NDArray[np.uint32], other: npt.NDArray[np.uint32]) -> int:
    """How many first tokens are the same."""
    length = min(len(one), len(other))
    differ = one[:length] != other[:length]
    return int(differ.argmax()) if differ.any() else length


def shuffled(rows: Sequence[Ids], least: int, draw: Callable[[int], list[int]]) -> list[int]:
    """Places of the rows in an order by chance in which those that begin alike stand together, at every depth.

    `draw(n)` gives a permutation of n places.
    """
    tree = segments(rows, least)
    deepest: dict[int, int | None] = dict.fromkeys(range(len(rows)))
    for place, segment in enumerate(tree):
        deepest.update(dict.fromkeys(segment.rows, place))  # a deeper one comes later
    below: dict[int | None, list[tuple[bool, int]]] = {}
    for place, segment in enumerate(tree):
        below.setdefault(segment.parent, []).append((True, place))
    for row, parent in deepest.items():
        below.setdefault(parent, []).append((False, row))
    order: list[int] = []
    pending = _drawn(below[None], draw) if rows else []
    while pending:
        is_segment, place = pending.pop()
        if is_segment:
            pending += _drawn(below[place], draw)
        else:
            order.append(place)
    return order


def _drawn(children: list[tuple[bool, int]], draw: Callable[[int], list[int]]) -> list[tuple[bool, int]]:
    return [children[place] for place in draw(len(children))]


class Saved(NamedTuple):
    """How many times fewer tokens there are once what rows begin with is computed once: at least 1."""

    shuffled: dict[int, float]
    """In batches of so many rows, drawn by chance."""
    by_prefix: dict[int, float]
    """In such batches of rows that begin alike."""
    most: dict[int, int]
    """Tokens that are left, at most, in the heaviest of all batches of so many rows."""


BATCHES = (8, 32)
HEAVIEST = tuple(1 << power for power in range(11))
"""Rows of the batches whose heaviest is measured."""
SAMPLE = 4096
"""Rows that are looked at: of more, so many by chance."""


def saved(rows: Sequence[Sequence[Ids]], seed: int, least: int = 8) -> Saved:
    """Measured on the rows themselves; a row is one sequence of token ids, or several, as a pair is."""
    draw = random.Random(seed)
    some = draw.sample(rows, SAMPLE) if len(rows) > SAMPLE else list(rows)
    mixed = draw.sample(some, len(some))
    alike = [some[place] for place in ordered([row[0] for row in some])]
    return Saved(
        {size: _saved(mixed, size, least) for size in BATCHES},
        {size: _saved(alike, size, least) for size in BATCHES},
        heaviest(rows, least),
    )


def _saved(rows: Sequence[Sequence[Ids]], size: int, least: int) -> float:
    given = computed = 0
    for start in range(0, len(rows), size):
        batch = [sequence for row in rows[start : start + size] for sequence in row]
        tokens = sum(map(len, batch))
        given += tokens
        computed += tokens - sum((one.end - one.begin) * (len(one.rows) - 1) for one in segments(batch, least))
    return given / computed if computed else 1.0


def heaviest(rows: Sequence[Sequence[Ids]], least: int = 8) -> dict[int, int]:
    """Tokens that the heaviest of all batches of so many rows leaves at most, once shared beginnings are computed once.

    Over a tree these are the longest path, then the longest that leaves it, and so on. Of a row of several sequences
    the first one is its path, and what the others have beside it is its own. `least` shared tokens of each sequence are
    counted as if they were not: fewer than that more than others share make no segment.
    """
    import numpy as np

    if not rows:
        return {}
    ids = [[np.asarray(sequence, dtype=IDS) for sequence in row] for row in rows]

    def shared(one: npt.NDArray[np.uint32], other: npt.NDArray[np.uint32]) -> int:
        return max(0, _common(one, other) - least)

    order = ordered([row[0] for row in ids])
    alone = [len(row[0]) + sum(len(other) - shared(row[0], other) for other in row[1:]) for row in ids]
    forks = [shared(ids[one][0], ids[other][0]) for one, other in pairwise(order)]
    paths = _paths([alone[place] for place in order], forks)
    return {size: sum(paths[:size]) for size in HEAVIEST if size < 2 * len(rows)}


def _paths(lengths: Sequence[int], common: Sequence[int]) -> list[int]:
    """The tree of sorted rows cut into paths, the longest first: at each fork the longer branch goes on, the other one
    is a path from there.

    `common` has what each row shares with the next. The first n paths are the most that n rows can have together.
    """
    found: list[int] = []
    open_: list[tuple[int, int]] = []  # where a branch leaves the one before it, and how long it is at most

    def close(above: int) -> None:
        while len(open_) > 1 and open_[-1][0] > above:
            fork, length = open_.pop()
            before, other = open_.pop()
            found.append(min(length, other) - fork)
            open_.append((before, max(length, other)))

    for fork, length in zip([0, *common], lengths, strict=True):
        close(fork)
        open_.append((fork, length))
    close(-1)
    return sorted([*found, *(length for _, length in open_)], reverse=True)
