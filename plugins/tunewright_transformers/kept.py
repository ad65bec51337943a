"""Keys and values: those of a segment, which are read where they lie, and caches that models write theirs into."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer


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


class Passing(CacheLayerMixin):
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


class Growing(Passing):
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

    def taken(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [key heads, tokens, D] of the places in use that are true [rows, used], row by row."""
        keys, values = (each[:, :, : self.used].transpose(1, 2)[places] for each in (self.keys, self.values))
        return keys.transpose(0, 1), values.transpose(0, 1)

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


def keeps_keys(model: Any) -> bool:
    """Whether every layer keeps keys and values, which can be shared and padded."""
    return all(isinstance(layer, DynamicLayer) for layer in DynamicCache(config=model.config).layers)


def exceeded_window(model: Any, tokens: int) -> int | None:
    """The shortest window of the model's layers if a row of so many tokens is longer: then it hides some of them."""
    windows = [layer.sliding_window for layer in DynamicCache(config=model.config).layers if layer.is_sliding]
    shortest: int = min(windows, default=tokens)
    return shortest if shortest < tokens else None


def cache_argument(model: Any) -> str:
    """transformers 5.24 renamed it."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
