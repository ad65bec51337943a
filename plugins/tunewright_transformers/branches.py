"""Rows that begin alike, in groups and groups of groups: what some share is computed once, and read where it lies.

Tokens are fed in passes `[1, tokens]` of pieces that stand one behind the other without padding. A piece is a segment
of the rows' tree or what a row has of its own; it sees the segments above it and itself. For decoding, each row has
keys and values of its own in a buffer, and those of its segments are read once for all rows below them, not copied.
A row's numbers are those that it has alone, apart from the order of floating-point sums.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.nn.functional import scaled_dot_product_attention as attention
from transformers import AttentionInterface, DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from tunewright.data.prefixes import ordered, segments

SHARED = 8
"""Fewest common tokens for which a piece of their own pays."""
AT_ONCE = 2048
"""Tokens of a pass: more make a product no faster."""
ONE_MASK = 256
"""Tokens of pieces under the same path that are attended to as one block, in which most pairs are masked."""
NAME = "tunewright_branches"
CLOSE = 0.05
"""Relative distance of logits above which a model is one that this module does not know; bf16 rounds to 0.01."""

_KNOWN: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)  # each is one and the same, or another
class Kept:
    """Keys and values of some tokens, of each layer [key heads, tokens, D]."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]

    def part(self, begin: int, end: int) -> Kept:
        """A copy of those of some of the tokens, so that the others' memory is freed."""
        return Kept(
            [each[:, begin:end].clone() for each in self.keys], [each[:, begin:end].clone() for each in self.values]
        )


Path = tuple[Kept, ...]
"""The segments above a piece, root first."""


class Piece(NamedTuple):
    """Tokens to feed, and what stands before them: `begin` tokens, which are those of its path."""

    ids: Sequence[int]
    begin: int
    path: Path


class Tree:
    """What rows of token ids share, from `SHARED` tokens on.

    `order` has the rows' places such that those that begin alike are neighbours.
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows, self.order = rows, ordered(rows)
        self.segments = segments(rows, SHARED)
        self._leaf: list[int | None] = [None] * len(rows)
        for place, segment in enumerate(self.segments):
            for row in segment.rows:
                self._leaf[row] = place  # a deeper one comes later

    def path(self, row: int) -> list[int]:
        """Places of the segments that the row begins with, root first."""
        return self.above(self._leaf[row])

    def above(self, place: int | None) -> list[int]:
        """The segment and those above it, root first."""
        found = []
        while place is not None:
            found.append(place)
            place = self.segments[place].parent
        return found[::-1]

    def depth(self, row: int) -> int:
        """How many tokens of the row are in segments."""
        leaf = self._leaf[row]
        return 0 if leaf is None else self.segments[leaf].end

    def batches(self, further: int, budget: int) -> Iterator[list[int]]:
        """Neighbours in `order`, as many as have room for their own tokens and so many `further` ones, each row as long
        as the longest, beside their segments: in all at most `budget` tokens, or one row."""
        batch: list[int] = []
        above: set[int] = set()
        longest = 0
        for row in self.order:
            more, own = above.union(self.path(row)), max(longest, len(self.rows[row]) - self.depth(row))
            shared = sum(self.segments[place].end - self.segments[place].begin for place in more)
            if batch and shared + (len(batch) + 1) * (own + further) > budget:
                yield batch
                batch, more, own = [], set(self.path(row)), len(self.rows[row]) - self.depth(row)
            batch.append(row)
            above, longest = more, own
        if batch:
            yield batch


class Pass(NamedTuple):
    """What came of a pass: hidden states [tokens, H], keys and values, and where each piece begins in them."""

    hidden: torch.Tensor
    kept: Kept
    starts: list[int]


class _Noting(CacheLayerMixin):
    """A layer of a cache that keeps what one pass brings, and has nothing before it."""

    is_sliding = False

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = key_states, value_states
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class _Growing(_Noting):
    """Each row's own keys and values [rows, key heads, room, D], of which the first `used` places are in use."""

    def __init__(self, rows: int, room: int) -> None:
        super().__init__()
        self.rows, self.room, self.used = rows, room, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        shape = (self.rows, key_states.shape[1], self.room)
        self.keys = key_states.new_zeros((*shape, key_states.shape[3]))
        self.values = value_states.new_zeros((*shape, value_states.shape[3]))
        self.is_initialized = True

    def put(self, key_states: torch.Tensor, value_states: torch.Tensor, rows: torch.Tensor, at: torch.Tensor) -> None:
        """Keys and values [key heads, tokens, D] of tokens, each of which has its row and its place there."""
        if not self.is_initialized:
            self.lazy_initialization(key_states[None], value_states[None])
        self.keys[rows, :, at] = key_states.transpose(0, 1)
        self.values[rows, :, at] = value_states.transpose(0, 1)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys[:, :, self.used] = key_states[:, :, 0]
        self.values[:, :, self.used] = value_states[:, :, 0]
        self.used += 1
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]

    def select(self, rows: torch.Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]


class _Block(NamedTuple):
    """The tokens `begin:end` of a pass, pieces under one path, and the pairs that count [end - begin, path + own]."""

    path: Path
    begin: int
    end: int
    mask: torch.Tensor | None
    """None where they are one piece without a path, which is causal."""


class _Blocks(NamedTuple):
    """How the tokens of a pass attend."""

    blocks: list[_Block]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """[1, tokens, heads, D] of query [1, heads, tokens, D]."""
        times = query.shape[1] // key.shape[1]
        made = []
        for path, begin, end, mask in self.blocks:
            keys = torch.cat([*(kept.keys[layer] for kept in path), key[0, :, begin:end]], 1)
            values = torch.cat([*(kept.values[layer] for kept in path), value[0, :, begin:end]], 1)
            keys, values = (each.repeat_interleave(times, 0)[None] for each in (keys, values))
            asked = query[:, :, begin:end]
            made.append(attention(asked, keys, values, attn_mask=mask, is_causal=mask is None, scale=scaling))
        return torch.cat(made, 2).transpose(1, 2)


class _Span(NamedTuple):
    """A segment that the neighbouring rows `first:last` of a batch have, `at` tokens behind their beginning."""

    kept: Kept
    first: int
    last: int
    at: int


class _Step(NamedTuple):
    """How one token of each row attends: the segments as one product for all rows below them, then what is its own."""

    spans: list[_Span]
    longest: int
    """Tokens of the longest path."""
    holes: torch.Tensor
    """Added to the scores of a row's own places [rows, 1, 1, used]: -inf where there is no token of the row."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """[rows, 1, heads, D] of query [rows, heads, 1, D]."""
        rows, heads, _, size = query.shape
        groups = key.shape[1]
        asked = (query * (size**-0.5 if scaling is None else scaling)).view(rows, groups, heads // groups, size)
        own = (asked @ key.transpose(2, 3)).float() + self.holes
        scores = own.new_full((*own.shape[:3], self.longest + own.shape[3]), -torch.inf)
        scores[..., self.longest :] = own
        for kept, first, last, at in self.spans:
            keys = kept.keys[layer]
            found = _side_by_side(asked[first:last]) @ keys.transpose(1, 2)
            scores[first:last, ..., at : at + keys.shape[1]] = _apart(found, last - first)
        weights = scores.softmax(-1).to(value.dtype)
        made = weights[..., self.longest :] @ value
        for kept, first, last, at in self.spans:
            values = kept.values[layer]
            found = _side_by_side(weights[first:last, ..., at : at + values.shape[1]]) @ values
            made[first:last] += _apart(found, last - first)
        return made.reshape(rows, 1, heads, -1)


def _side_by_side(rows: torch.Tensor) -> torch.Tensor:
    """[rows, groups, heads, X] as [groups, rows × heads, X]."""
    return rows.transpose(0, 1).flatten(1, 2)


def _apart(joined: torch.Tensor, rows: int) -> torch.Tensor:
    """The inverse of it."""
    return joined.unflatten(1, (rows, -1)).transpose(0, 1)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    branches: _Blocks | _Step | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers asks of an attention. A model that does not hand `branches` on is found out by `knows`."""
    if branches is None:
        return query.transpose(1, 2), None
    return branches.attend(module.layer_idx, query, key, value, scaling), None


AttentionInterface.register(NAME, _attend)


@contextmanager
def _attending(model: Any) -> Iterator[None]:
    """The model attends by this module meanwhile."""
    config = model.config.get_text_config()
    before, config._attn_implementation = config._attn_implementation, NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def feed(model: Any, pieces: Sequence[Piece]) -> Pass:
    """One pass of the backbone over pieces, none of them empty; neighbours under the same path are read together."""
    device, backbone = model.device, model.base_model
    ids = torch.tensor([[token for piece in pieces for token in piece.ids]], device=device)
    positions = [torch.arange(piece.begin, piece.begin + len(piece.ids), device=device) for piece in pieces]
    layers = [_Noting() for _ in DynamicCache(config=model.config).layers]
    with _attending(model):
        made = backbone(
            input_ids=ids,
            position_ids=torch.cat(positions)[None],
            use_cache=True,
            branches=_Blocks(list(_blocks(pieces, device))),
            **{cache_argument(backbone): Cache(layers=layers)},
        )
    lengths = [len(piece.ids) for piece in pieces]
    starts = list(accumulate(lengths[:-1], initial=0))
    kept = Kept([layer.keys[0] for layer in layers], [layer.values[0] for layer in layers])
    return Pass(made.last_hidden_state[0], kept, starts)


def _blocks(pieces: Sequence[Piece], device: Any) -> Iterator[_Block]:
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


def _block(path: Path, begin: int, lengths: Sequence[int], before: int, device: Any) -> _Block:
    end = begin + sum(lengths)
    if not before and len(lengths) == 1:
        return _Block(path, begin, end, None)
    own = torch.block_diag(*(torch.ones(length, length, device=device).tril() for length in lengths)).bool()
    return _Block(path, begin, end, torch.cat([own.new_ones(len(own), before), own], 1))


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


class Grown:
    """The segments of a tree that have been computed and are still to be gone on from."""

    def __init__(self, model: Any, tree: Tree) -> None:
        self.model, self.tree = model, tree
        self.kept: dict[int, Kept] = {}

    def path(self, places: Sequence[int]) -> Path:
        return tuple(self.kept[place] for place in places)

    def grow(self, rows: Sequence[int]) -> Iterator[tuple[list[int], Pass]]:
        """Compute the segments of the rows, level by level, and let go of all others'.

        Yields those of each pass, in the order in which they lie in it; none is computed twice.
        """
        tree = self.tree
        needed = {place for row in rows for place in tree.path(row)}
        self.kept = {place: kept for place, kept in self.kept.items() if place in needed}
        missing = sorted(needed - self.kept.keys())
        for _, some in groupby(sorted(missing, key=self._level), key=self._level):
            level = list(some)
            pieces = [self._piece(place) for place in level]
            for chosen in passes(pieces):
                made = feed(self.model, [pieces[each] for each in chosen])
                for each, start in zip(chosen, made.starts, strict=True):
                    self.kept[level[each]] = made.kept.part(start, start + len(pieces[each].ids))
                yield [level[each] for each in chosen], made

    def own(self, row: int) -> Piece:
        """What the row has of its own."""
        depth = self.tree.depth(row)
        return Piece(self.tree.rows[row][depth:], depth, self.path(self.tree.path(row)))

    def _level(self, place: int) -> int:
        return len(self.tree.above(place))

    def _piece(self, place: int) -> Piece:
        begin, end, rows, _ = self.tree.segments[place]
        return Piece(self.tree.rows[rows[0]][begin:end], begin, self.path(self.tree.above(place)[:-1]))


class Batch:
    """Rows that are decoded together: what they have of their own, each with `room` for further tokens.

    Neighbours that begin alike have the very same segments in their paths.
    """

    def __init__(self, model: Any, pieces: Sequence[Piece], room: int) -> None:
        self.model = model
        widest = max(len(piece.ids) for piece in pieces)
        self.lengths = torch.tensor([piece.begin + len(piece.ids) for piece in pieces], device=self.model.device)
        self.paths = [piece.path for piece in pieces]
        self.begins = [piece.begin for piece in pieces]
        own = torch.tensor([len(piece.ids) for piece in pieces], device=self.model.device)
        there = torch.arange(widest, device=self.model.device) < own[:, None]
        self.holes = torch.zeros(len(pieces), 1, 1, widest + room, device=self.model.device)
        self.holes[..., :widest].masked_fill_(~there[:, None, None], -torch.inf)
        self.layers = [_Growing(len(pieces), widest + room) for _ in DynamicCache(config=self.model.config).layers]
        for chosen in passes(pieces):
            self._fill([pieces[each] for each in chosen], chosen)
        for layer in self.layers:
            layer.used = widest
        self._spans = self._lie()

    def _fill(self, pieces: Sequence[Piece], rows: Sequence[int]) -> None:
        kept = feed(self.model, pieces).kept
        lengths = torch.tensor([len(piece.ids) for piece in pieces], device=self.model.device)
        row = torch.tensor(rows, device=self.model.device).repeat_interleave(lengths)
        at = torch.cat([torch.arange(length, device=self.model.device) for length in lengths.tolist()])
        for layer, keys, values in zip(self.layers, kept.keys, kept.values, strict=True):
            layer.put(keys, values, row, at)

    def _lie(self) -> list[_Span]:
        """Each segment once, with the rows that have it."""
        found, at = [], [0] * len(self.paths)
        for level in range(max(map(len, self.paths))):
            places = [place for place, path in enumerate(self.paths) if len(path) > level]
            for kept, some in groupby(places, key=lambda place: self.paths[place][level]):
                rows = list(some)
                found.append(_Span(kept, rows[0], rows[-1] + 1, at[rows[0]]))
                for row in rows:
                    at[row] += kept.keys[0].shape[1]
        return found

    def step(self, inputs: torch.Tensor) -> torch.Tensor:
        """Feed a token of each row [rows]; the model's logits [rows, V] of what comes next."""
        used = self.layers[0].used + 1
        step = _Step(self._spans, max(self.begins), self.holes[..., :used])
        with _attending(self.model):
            made = self.model(
                input_ids=inputs[:, None],
                position_ids=self.lengths[:, None],
                use_cache=True,
                branches=step,
                **{cache_argument(self.model): Cache(layers=list(self.layers))},
            )
        self.lengths = self.lengths + 1
        logits: torch.Tensor = made.logits[:, -1]
        return logits

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, which are in order, alone."""
        kept = torch.tensor(rows, device=self.model.device)
        self.lengths, self.holes = self.lengths[kept], self.holes[kept]
        self.paths, self.begins = [self.paths[row] for row in rows], [self.begins[row] for row in rows]
        for layer in self.layers:
            layer.select(kept)
        self._spans = self._lie()


def cache_argument(model: Any) -> str:
    """transformers 5.24 renamed it."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def sharing(model: Any, longest: int, ids: Sequence[int]) -> bool:
    """Whether rows of at most `longest` tokens can be asked this way; `ids` are some tokens to try it with.

    Every layer must keep keys and values, and a window be no shorter than the longest row: then it hides nothing.
    """
    layers = DynamicCache(config=model.config).layers
    if not all(isinstance(layer, DynamicLayer) for layer in layers):
        return False
    if longest > min((layer.sliding_window for layer in layers if layer.is_sliding), default=longest):
        return False
    return len(ids) > 2 and _knows(model, ids)


@torch.no_grad()
def _knows(model: Any, ids: Sequence[int]) -> bool:
    """Whether the model hands its attention over, and that is all that it does with it. Told by trying it, not by a
    list: two pieces and a step must give what its own forward gives."""
    if model.config.get_text_config()._attn_implementation != "sdpa":  # others cap scores, or have sinks
        return False
    if model not in _KNOWN:
        try:
            _KNOWN[model] = _agrees(model, list(ids[: 2 * SHARED]))
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, AttributeError, RuntimeError, LookupError):
            _KNOWN[model] = False  # its code takes no `branches`, or asks of a cache what ours has not
    return _KNOWN[model]


def _agrees(model: Any, ids: list[int]) -> bool:
    half, row = len(ids) // 2, torch.tensor([ids], device=model.device)
    plain = model(input_ids=row, use_cache=False).logits[0, -1].float()
    kept = feed(model, [Piece(ids[:half], 0, ())]).kept
    found = Batch(model, [Piece(ids[half:-1], half, (kept,))], 1).step(row[0, -1:])[0].float()
    return bool((found - plain).norm() <= CLOSE * plain.norm())
