"""Tokens are fed in passes `[1, tokens]` of pieces that stand one behind the other without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache

from tunewright_transformers.attention import Attending
from tunewright_transformers.branch_attention import BRANCHES, Block, Blocks
from tunewright_transformers.kept import Kept, Passing, Path, cache_argument

AT_ONCE = 2048
"""Tokens of a pass: more make a product no faster."""
ONE_MASK = 256
"""Tokens of pieces under the same path that are attended to as one block, in which most pairs are masked."""


class Piece(NamedTuple):
    """Tokens to feed, and what stands before them: `begin` tokens, which are those of its path."""

    ids: Sequence[int]
    begin: int
    path: Path


class Pass(NamedTuple):
    """What came of a pass: hidden states [tokens, H], keys and values, and where each piece begins in them."""

    hidden: torch.Tensor
    kept: Kept
    starts: list[int]


def feed(model: Any, pieces: Sequence[Piece]) -> Pass:
    """One pass of the backbone over pieces, none of them empty; neighbours under the same path are read together."""
    device, backbone = model.device, model.base_model
    ids = torch.tensor([[token for piece in pieces for token in piece.ids]], device=device)
    positions = [torch.arange(piece.begin, piece.begin + len(piece.ids), device=device) for piece in pieces]
    layers = [Passing() for _ in DynamicCache(config=model.config).layers]
    with Attending(model, BRANCHES):
        made = backbone(
            input_ids=ids,
            position_ids=torch.cat(positions)[None],
            use_cache=True,
            branches=Blocks(list(_blocks(pieces, device))),
            **{cache_argument(backbone): Cache(layers=layers)},
        )
    lengths = [len(piece.ids) for piece in pieces]
    starts = list(accumulate(lengths[:-1], initial=0))
    kept = Kept([layer.keys[0] for layer in layers], [layer.values[0] for layer in layers])
    return Pass(made.last_hidden_state[0], kept, starts)


def _blocks(pieces: Sequence[Piece], device: Any) -> Iterator[Block]:
    begin = 0
    for some in _together(pieces):
        lengths = [len(piece.ids) for piece in some]
        yield _block(some[0].path, begin, lengths, some[0].begin, device)
        begin += sum(lengths)


def _together(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Neighbours under the same path up to `ONE_MASK` tokens: few products, and few pairs in them that do not count."""
    some: list[Piece] = []
    for piece in pieces:
        if some and (piece.path != some[0].path or sum(len(each.ids) for each in [*some, piece]) > ONE_MASK):
            yield some
            some = []
        some.append(piece)
    if some:
        yield some


def _block(path: Path, begin: int, lengths: Sequence[int], before: int, device: Any) -> Block:
    end = begin + sum(lengths)
    if len(lengths) == 1:
        return Block(path, begin, end, None)
    owner = torch.arange(len(lengths), device=device).repeat_interleave(torch.tensor(lengths, device=device))
    own = (owner[:, None] == owner).tril()
    return Block(path, begin, end, torch.cat([own.new_ones(len(own), before), own], 1))


def passes(pieces: Sequence[Piece]) -> Iterator[list[int]]:
    """Places of the pieces, in their order, in passes of `AT_ONCE` tokens or of one piece. Empty pieces are in none."""
    some: list[int] = []
    tokens = 0
    for place, piece in enumerate(pieces):
        if some and tokens + len(piece.ids) > AT_ONCE:
            yield some
            some, tokens = [], 0
        if piece.ids:
            some.append(place)
            tokens += len(piece.ids)
    if some:
        yield some
