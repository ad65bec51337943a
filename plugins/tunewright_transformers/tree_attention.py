"""Attention over a prefix tree: each token sees the tokens of its own path up to itself, and nothing else.

A dense mask over N tokens would cost N × N products, nearly all of them masked. Here the segments of a block attend
to what they follow on in one product for all of them, and to themselves in a batched one; the softmax goes over both.
The backward works the probabilities out again, as FlashAttention does (https://arxiv.org/abs/2205.14135), so that none
is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tunewright_transformers.attention import PLAIN, register
from tunewright_transformers.prefix import Block, Tree

TREE, ARGUMENT = "tunewright_tree", "prefix_tree"
SCORES_AT_ONCE = 1 << 23
"""Attention scores in one matrix: 32 MiB in fp32, of which a few are alive at a time."""
WIDE = 192
"""Longer segments are taken a part of their queries at a time: keys after it need no product."""
STEP = 128
"""Queries in such a part, at most."""

Places = torch.Tensor | slice


class Part(NamedTuple):
    """Some of a block's tokens: `rows` segments, in each the queries [Q] and its own keys [K] up to the last query.

    `queries`, `keys` and `before` are places in the flat sequence. `real` marks the queries that are no padding [R × Q]
    (None where all are real), `kept` tells where they stand, and `goals` their places; `hidden` marks the keys that
    come after a query, of the last Q [Q, Q]: all before are seen.
    """

    rows: int
    queries: Places
    before: Places
    keys: Places
    real: torch.Tensor | None
    kept: torch.Tensor | None
    goals: Places
    hidden: torch.Tensor


class Layout:
    """A tree, cut into parts whose scores fit into memory, on the model's device; `tokens` are those computed."""

    def __init__(self, tree: Tree, heads: int, device: Any) -> None:
        self.longest = int(tree.positions.max()) + 1
        self.tokens = len(tree)
        self.parts = [part for block in tree.blocks for part in _parts(block, heads, device)]

    def laid(self, of: torch.Tensor) -> torch.Tensor:
        """What the tree has of each token [N], in the order in which the backbone is to see them."""
        return of

    def back(self, found: torch.Tensor) -> torch.Tensor:
        """What was found of them [N, …], in the order of the tree."""
        return found

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
        """`query` [1, H, N, D], `key` and `value` [1, G, N, D] → [1, N, H, D]."""
        flat = (one[0].transpose(0, 1) for one in (query, key, value))
        found: torch.Tensor = TreeAttention.apply(*flat, self, scaling)[None]
        return found


def _parts(block: Block, heads: int, device: Any) -> Iterator[Part]:
    own, real = block.own()
    before = _at(block.before, device)
    widest = len(block.before) + block.width
    fits = max(1, SCORES_AT_ONCE // (heads * widest))
    step = min(block.width if block.width <= WIDE else STEP, fits)
    triangle = torch.ones(step, step, dtype=torch.bool, device=device).triu(1)
    rows = max(1, SCORES_AT_ONCE // (heads * step * widest))
    for low in range(0, len(own), rows):
        some, their = own[low : low + rows], real[low : low + rows]
        for start in range(0, block.width, step):
            end = min(start + step, block.width)
            asked, counts = some[:, start:end].reshape(-1), their[:, start:end].reshape(-1)
            if not bool(counts.any()):
                continue  # the shorter of these segments end before: padding stands for their last token once more
            whole = bool(counts.all())
            queries = _at(asked, device) if whole else asked.to(device)
            yield Part(
                rows=len(some),
                queries=queries,
                before=before,
                keys=_at(some[:, :end].reshape(-1), device),
                real=None if whole else counts.to(device),
                kept=None if whole else counts.nonzero()[:, 0].to(device),
                goals=queries if whole else asked[counts].to(device),
                hidden=triangle[: end - start, : end - start],
            )


def _at(places: torch.Tensor, device: Any) -> Places:
    """The places as a slice where one follows on the other: a view instead of a copy."""
    first = int(places[0]) if len(places) else 0
    if torch.equal(places, torch.arange(first, first + len(places))):
        return slice(first, first + len(places))
    return places.to(device)


class TreeAttention(torch.autograd.Function):
    """`query` [N, H, D], `key` and `value` [N, G, D] → [N, H, D]; H is a multiple of G, in whose groups heads share."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scaling: float
    ) -> torch.Tensor:
        out = torch.empty_like(query)
        for part in layout.parts:
            asked = _Asked(part, query, key, scaling)
            before, own = asked.split(asked.chances().to(query.dtype))
            found = torch.baddbmm((own @ asked.by_row(value)).flatten(1, 2), before, _heads(value, part.before))
            _put(out, part, asked.back(found))
        ctx.layout, ctx.scaling = layout, scaling
        ctx.save_for_backward(query, key, value)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        (slope,) = grads
        to_query, to_key, to_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for part in ctx.layout.parts:
            asked = _Asked(part, query, key, ctx.scaling)
            chances, slopes = asked.chances(), asked.grouped(slope, real=True)
            towards = asked.products(slopes, _heads(value, part.before), asked.by_row(value))
            # the derivative of a softmax in one pass: chances × (towards − their sum of towards × chances)
            towards = torch._softmax_backward_data(towards, chances, -1, torch.float32).to(query.dtype)
            before, own = asked.split(towards)
            found = torch.baddbmm((own @ asked.own_keys).flatten(1, 2), before, asked.keys)
            _put(to_query, part, asked.back(found))
            _add(to_key, part.before, before.mT @ asked.queries)
            _add(to_key, part.keys, (own.mT @ asked.each(asked.queries)).flatten(1, 2))
            before, own = asked.split(chances.to(query.dtype))
            _add(to_value, part.before, before.mT @ slopes)
            _add(to_value, part.keys, (own.mT @ asked.each(slopes)).flatten(1, 2))
        return to_query.mul_(ctx.scaling), to_key.mul_(ctx.scaling), to_value, None, None


class _Asked:
    """The queries of a part, by groups of heads that share keys: [G, R × h × Q, D], h = H / G."""

    def __init__(self, part: Part, query: torch.Tensor, key: torch.Tensor, scaling: float) -> None:
        self.part, self.scaling = part, scaling
        self.groups, self.shared = key.shape[1], query.shape[1] // key.shape[1]
        self.width, self.seen = part.hidden.shape[0], _count(part.before)
        self.queries = self.grouped(query)
        self.keys, self.own_keys = _heads(key, part.before), self.by_row(key)

    def grouped(self, of: torch.Tensor, real: bool = False) -> torch.Tensor:
        """[N, H, D] → [G, R × h × Q, D] of the part's queries; with `real`, zero where a query is padding."""
        some = _take(of, self.part.queries)
        if real and self.part.real is not None:
            some = some * self.part.real[:, None, None].to(some.dtype)
        split = some.view(self.part.rows, self.width, self.groups, self.shared, of.shape[-1])
        return split.permute(2, 0, 3, 1, 4).reshape(self.groups, -1, of.shape[-1])

    def back(self, found: torch.Tensor) -> torch.Tensor:
        """[G, R × h × Q, D] → [R × Q, H, D]."""
        split = found.view(self.groups, self.part.rows, self.shared, self.width, -1)
        return split.permute(1, 3, 0, 2, 4).reshape(self.part.rows * self.width, self.groups * self.shared, -1)

    def each(self, of: torch.Tensor) -> torch.Tensor:
        """[G, R × h × Q, …] → [G, R, h × Q, …]."""
        return of.view(self.groups, self.part.rows, -1, of.shape[-1])

    def by_row(self, of: torch.Tensor) -> torch.Tensor:
        """[N, G, D] → the part's own keys, or values, [G, R, K, D]."""
        some = _take(of, self.part.keys)
        return some.view(self.part.rows, -1, *some.shape[1:]).permute(2, 0, 1, 3)

    def chances(self) -> torch.Tensor:
        """How much each query takes of each key that it may see: fp32 [G, R × h × Q, P + K], 0 where hidden."""
        scores = self.products(self.queries, self.keys, self.own_keys, self.scaling)
        own = scores.view(self.groups, self.part.rows * self.shared, self.width, -1)[..., -self.width :]
        own.masked_fill_(self.part.hidden, -math.inf)
        return torch.softmax(scores, -1)

    def products(self, of: torch.Tensor, before: torch.Tensor, own: torch.Tensor, scaling: float = 1.0) -> torch.Tensor:
        """Of `of` [G, R × h × Q, D] with [G, P, D] and [G, R, K, D], times `scaling`: fp32 [G, R × h × Q, P + K].

        In fp32, for no fused kernel rounds a score to 16 bits before its exponential is taken.
        """
        of, before, own = of.float(), before.float(), own.float()
        found = of.new_empty(*of.shape[:2], self.seen + own.shape[2])
        if self.seen:
            first = found[..., : self.seen]
            torch.baddbmm(first, of, before.mT, beta=0, alpha=scaling, out=first)
        some = torch.baddbmm(of.new_empty(()), self.each(of).flatten(0, 1), own.flatten(0, 1).mT, beta=0, alpha=scaling)
        found[..., self.seen :] = some.view(self.groups, -1, own.shape[2])
        return found

    def split(self, of: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[G, R × h × Q, P + K] → [G, R × h × Q, P] and [G, R, h × Q, K]."""
        own = of.shape[-1] - self.seen
        return of[..., : self.seen], self.each(of[..., -own:].contiguous())


def _take(of: torch.Tensor, places: Places) -> torch.Tensor:
    return of[places] if isinstance(places, slice) else of.index_select(0, places)


def _count(places: Places) -> int:
    return places.stop - places.start if isinstance(places, slice) else len(places)


def _heads(of: torch.Tensor, places: Places) -> torch.Tensor:
    """[N, G, D] → [G, P, D]."""
    return _take(of, places).transpose(0, 1)


def _put(into: torch.Tensor, part: Part, found: torch.Tensor) -> None:
    if part.kept is not None:
        found = found.index_select(0, part.kept)
    if isinstance(part.goals, slice):
        into[part.goals] = found
    else:
        into.index_copy_(0, part.goals, found)


def _add(into: torch.Tensor, places: Places, found: torch.Tensor) -> None:
    """Add [G, P, D] at places of [N, G, D]."""
    if isinstance(places, slice):
        into[places] += found.transpose(0, 1)
    else:
        into.index_add_(0, places, found.transpose(0, 1))


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface: `query` [1, H, N, D], `key` and `value` [1, G, N, D] → [1, N, H, D].

    Without a tree among the arguments it is transformers' own `sdpa`. Raises `ValueError` where a layer asks for what
    a tree cannot give: a window that a row exceeds, capped scores, dropout, sinks.
    """
    layout: Layout | None = kwargs.pop(ARGUMENT, None)
    if layout is None:
        found: tuple[torch.Tensor, None] = ALL_ATTENTION_FUNCTIONS[PLAIN](
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return found
    window = kwargs.get("sliding_window")
    if window is not None and window < layout.longest:
        raise ValueError(f"rows of {layout.longest} tokens exceed a window of {window}")
    for name in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise ValueError(f"the model's attention uses `{name}`")
    if kwargs.get("dropout"):
        raise ValueError("the model's attention drops scores in training")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return layout.attend(query, key, value, scale), None


register(TREE, attend, masked=True)  # what is not asked with a tree is masked as ever


def run(backbone: Any, tree: Tree, layout: Layout) -> torch.Tensor:
    """The hidden states [N, H] of a tree's tokens, from a model that is `Attending` by `TREE`."""
    device = backbone.device
    ids, positions = (layout.laid(one).to(device)[None] for one in (tree.ids, tree.positions))
    # a mask of four dimensions is passed through as it is: none of N × N tokens is made
    passed = {ARGUMENT: layout, "attention_mask": torch.empty(1, 1, 1, 1, device=device), "use_cache": False}
    hidden: torch.Tensor = backbone(input_ids=ids, position_ids=positions, **passed).last_hidden_state[0]
    return layout.back(hidden)
