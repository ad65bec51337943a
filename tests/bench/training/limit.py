"""What a job needs in FLOPs, whoever does it: the bound that no side can pass, and the share of it that each reaches.

Counted are products of matrices over tokens that differ: what rows of one batch have in common from their beginning on
is needed once. A multiplication with an addition is two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Shape(NamedTuple):
    """A decoder's sizes, from its config.json."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    intermediate: int
    vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """Of a Llama-like model."""
        heads = config["num_attention_heads"]
        return cls(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head=config.get("head_dim") or config["hidden_size"] // heads,
            intermediate=config["intermediate_size"],
            vocabulary=config["vocab_size"],
        )

    @property
    def projections(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of a layer's seven linear maps."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        mlp = [(self.hidden, self.intermediate)] * 2 + [(self.intermediate, self.hidden)]
        return [(self.hidden, queries), (self.hidden, keys), (self.hidden, keys), (queries, self.hidden), *mlp]

    @property
    def linear(self) -> int:
        """Weights of all layers' linear maps."""
        return self.layers * sum(a * b for a, b in self.projections)

    def adapters(self, rank: int) -> int:
        """Weights of a LoRA on all of them."""
        return self.layers * sum(rank * (a + b) for a, b in self.projections)


class Tokens(NamedTuple):
    """What a batch needs: tokens to compute, pairs of a token with one that it attends to, places that are scored."""

    computed: int
    attended: int
    scored: int

    def __add__(self, other: Tokens) -> Tokens:  # type: ignore[override]
        return Tokens(*(a + b for a, b in zip(self, other, strict=True)))


def tokens(batch: Sequence[Sequence[int]], scored: int = 0) -> Tokens:
    """Of sequences of token ids that are computed together.

    Sorted, each shares with the one before it the longest beginning that it shares with any: what is left are the
    nodes of the tree of all beginnings.
    """
    computed = attended = 0
    before: Sequence[int] = ()
    for ids in sorted(batch):
        shared = _common(before, ids)
        computed += len(ids) - shared
        attended += (len(ids) * (len(ids) + 1) - shared * (shared + 1)) // 2
        before = ids
    return Tokens(computed, attended, scored)


def batches(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Rows as they follow one another, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def training(shape: Shape, need: Tokens, rank: int) -> float:
    """FLOPs of a step with LoRA: forward, then gradients towards activations, and of the adapters' weights alone.

    The frozen weights have no gradient. Towards the lowest layer's input none is needed; it is counted all the same.
    """
    frozen, adapted = shape.linear, shape.adapters(rank)
    linear = need.computed * (4 * frozen + 6 * adapted)
    attention = need.attended * shape.layers * 12 * shape.heads * shape.head
    return linear + attention + need.scored * 4 * shape.hidden * shape.vocabulary


def asking(shape: Shape, need: Tokens, rank: int) -> float:
    """FLOPs of a forward pass with LoRA that keeps nothing: an evaluation, a reference; rank 0 is the base alone."""
    linear = need.computed * 2 * (shape.linear + shape.adapters(rank))
    attention = need.attended * shape.layers * 4 * shape.heads * shape.head
    return linear + attention + need.scored * 2 * shape.hidden * shape.vocabulary


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    length = min(len(first), len(second))
    return next((place for place in range(length) if first[place] != second[place]), length)
