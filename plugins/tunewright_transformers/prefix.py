"""The prefix tree of a batch: what rows begin with in common stands once, and each row is a path through it.

Rows of a training share long beginnings: a system prompt, examples, a document, the prompt of two answers. A causal
model computes the same for equal beginnings, so one pass over the tree's tokens gives what the padded batch gives.

    rows                       tree, one segment a line          blocks
    S S S D D q q              0: S S S                          [0]            nothing before it
    S S S D D r                1:   D D                          [1]            after S S S
    S S S e e e                2:     q q                        [2, 3]         after S S S D D
                               3:     r                          [4]            after S S S
                               4:   e e e

Segments that follow the same tokens and are of like lengths form a block: attention treats them in one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tunewright.data.prefixes import segments

LEAST = 8
"""Fewest tokens of a segment that is computed once: each one costs attention a few kernels a layer."""
ALIKE = 0.75
"""A segment shorter than this share of its block's longest starts a block of its own: padding would cost more."""
SHORT = 16
"""Segments up to so many tokens share a block whatever their lengths: padding costs less than another block."""

Ints = npt.NDArray[np.int64]


class Piece(NamedTuple):
    """Tokens `start` to `end` of `row`: a segment of the tree, or what a row has for itself; -1 is no parent."""

    parent: int
    row: int
    start: int
    end: int

    @property
    def tokens(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Block:
    """Segments that follow on the same tokens, in the flat sequence one after the other from `first` on.

    `before` [P] holds the places of the tokens before them, from the row's first on. The `lengths` are in tokens,
    longest first.
    """

    before: torch.Tensor
    first: int
    lengths: tuple[int, ...]

    @property
    def width(self) -> int:
        """Tokens of the longest segment: S."""
        return self.lengths[0]

    def own(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Places of its tokens in a rectangle [k, S], padded on the right by the last token of each; which are real."""
        lengths = torch.tensor(self.lengths)
        starts = self.first + lengths.cumsum(0) - lengths
        steps = torch.arange(self.width)
        real = steps < lengths[:, None]
        return starts[:, None] + torch.minimum(steps, lengths[:, None] - 1), real


@dataclass(frozen=True)
class Tree:
    """A batch as one sequence of N tokens.

    `ids` and `positions` are [N]; `where` [B, L] is the place of each token of each row, 0 beyond what is computed of
    it. Every token is in exactly one block.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    where: torch.Tensor
    blocks: tuple[Block, ...]

    def __len__(self) -> int:
        return len(self.ids)


def tree_of(ids: torch.Tensor, lengths: torch.Tensor, least: int = LEAST) -> Tree:
    """The tree of the first `lengths` [B] tokens of each of the right-padded rows `ids` [B, L].

    A beginning of at least `least` tokens more than another one is computed once. Linear in the tokens but for the
    sorting of rows, and without Python for each token. Raises `ValueError` where there is no token at all.
    """
    rows, counts = ids.cpu().numpy(), lengths.cpu().numpy()
    pieces, last = _pieces(rows, counts, least)
    if not pieces:
        raise ValueError("no token to compute")
    groups = list(_alike(pieces))
    order = [place for group in groups for place in group]
    sizes = np.array([piece.tokens for piece in pieces])
    starts = dict(zip(order, (np.cumsum(sizes[order]) - sizes[order]).tolist(), strict=True))
    lines: dict[int, Ints] = {-1: np.empty(0, np.int64)}
    for place, piece in enumerate(pieces):  # a parent stands before its children
        own = np.arange(starts[place], starts[place] + piece.tokens)
        lines[place] = np.concatenate([lines[piece.parent], own])
    where = np.zeros(rows.shape, np.int64)
    for row, end in last.items():
        where[row, : counts[row]] = lines[end]
    flat = [pieces[place] for place in order]
    return Tree(
        ids=torch.from_numpy(np.concatenate([rows[one.row, one.start : one.end] for one in flat])),
        positions=torch.from_numpy(np.concatenate([np.arange(one.start, one.end) for one in flat])),
        where=torch.from_numpy(where),
        blocks=tuple(
            Block(
                before=torch.from_numpy(lines[pieces[group[0]].parent]),
                first=starts[group[0]],
                lengths=tuple(pieces[place].tokens for place in group),
            )
            for group in groups
        ),
    )


def _pieces(rows: Ints, counts: Ints, least: int) -> tuple[list[Piece], dict[int, int]]:
    """Every piece, parents first; and by row the last one of its path. Rows without tokens have none."""
    asked = np.flatnonzero(counts)
    shared = segments([rows[row, : counts[row]] for row in asked], least)
    pieces: list[Piece] = []
    last = dict.fromkeys(asked.tolist(), -1)
    for segment in shared:
        members = asked[segment.rows].tolist()
        parent = -1 if segment.parent is None else segment.parent
        pieces.append(Piece(parent, members[0], segment.begin, segment.end))
        last.update(dict.fromkeys(members, len(pieces) - 1))  # a deeper one comes later
    for row, parent in last.items():
        start, end = (pieces[parent].end if parent >= 0 else 0), int(counts[row])
        if end > start:
            pieces.append(Piece(parent, row, start, end))
            last[row] = len(pieces) - 1
    return pieces, last


def _alike(pieces: list[Piece]) -> Iterator[list[int]]:
    """Places of the pieces, parted into those of one block each: of one parent and of like lengths."""
    families: dict[int, list[int]] = {}
    for place, piece in enumerate(pieces):
        families.setdefault(piece.parent, []).append(place)
    for family in families.values():
        block: list[int] = []
        for place in sorted(family, key=lambda place: -pieces[place].tokens):
            longest = pieces[block[0]].tokens if block else 0
            if block and longest > SHORT and pieces[place].tokens < ALIKE * longest:
                yield block
                block = []
            block.append(place)
        yield block
