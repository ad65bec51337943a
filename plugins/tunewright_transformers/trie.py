"""What rows of token ids begin with in common, as a tree: found by sorting the rows and comparing neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

IDS = np.dtype(">u4")
"""Big-endian, so that rows compare as their bytes do: a sort of bytes is one `memcmp` a pair."""


class Segment(NamedTuple):
    """The tokens `begin:end` of each of its rows, which are the same, as is all before them."""

    begin: int
    end: int
    rows: list[int]
    """Places of two rows or more, in the order in which the tree has them."""
    parent: int | None
    """Place of the segment that ends where this one begins; None where this one begins at 0."""


def ordered(rows: Sequence[Sequence[int]]) -> list[int]:
    """Places of the rows by their tokens: rows that begin alike are neighbours."""
    keys = [np.asarray(row, dtype=IDS).tobytes() for row in rows]
    return sorted(range(len(rows)), key=keys.__getitem__)


def segments(rows: Sequence[Sequence[int]], least: int) -> list[Segment]:
    """The tree's inner nodes, a parent before its children and these in the rows' order: depth first.

    A segment has at least `least` tokens, one or more: what fewer tokens would tell apart stays with the rows below.
    What is not in a segment is a row's own; a row that others begin with may have nothing of its own.
    """
    if least < 1:
        raise ValueError(f"a segment of {least} tokens is none")
    order = ordered(rows)
    ids = [np.asarray(rows[place], dtype=IDS) for place in order]
    common = [_common(one, other) for one, other in pairwise(ids)]  # of the row in this place and the next
    found: list[Segment] = []
    pending: list[tuple[int, int, int, int | None]] = [
        (first, last, 0, None) for first, last in _runs(common, 0, len(order), least)
    ][::-1]
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


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """How many first tokens are the same."""
    length = min(len(one), len(other))
    differ = one[:length] != other[:length]
    return int(differ.argmax()) if differ.any() else length
