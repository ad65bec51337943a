"""How a model folder becomes a model and a tokenizer. The only part that calls a library's `from_pretrained`.

A complete loader is tests/fakes/plugin.py's `FakeLoader`: forty lines, no torch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from tunewright.parts.base import Backend, O
from tunewright.parts.quantizer import Quantizer

Use = Literal["train", "infer"]
Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": text}`."""


class Tokenizer(Protocol):
    """What the core asks of a tokenizer: render by the model's own template, encode, decode, know where answers end."""

    def render(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """The conversation as text by the model's chat template; with `generation_prompt`, ready for the answer."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered text; adds nothing."""
        ...

    def decode(self, ids: Sequence[int], *, special: bool) -> str:
        """Text of token ids, with special tokens or without."""
        ...

    @property
    def stops(self) -> frozenset[int]:
        """Ids at which generation ends."""
        ...

    @property
    def template(self) -> str:
        """The chat template's source."""
        ...

    @property
    def native(self) -> Any:
        """The library's own tokenizer object, for trainers and exports."""
        ...


class Loader(Backend[O]):
    """Turns a model folder into a model; `engine` names the embedded engine that asks models of this loader."""

    part: ClassVar[str] = "loader"
    engine: ClassVar[str]

    @abstractmethod
    def device(self) -> str:
        """The device type that models are put on: `cpu`, `cuda`. Enters every key that depends on it."""

    @abstractmethod
    def tokenizer(self, path: Path) -> Tokenizer:
        """The tokenizer of a model folder."""

    @abstractmethod
    def model(self, path: Path, quantizer: Quantizer, dtype: str, use: Use) -> Any:
        """The model of a model folder, quantized by `quantizer`, its other weights in `dtype`, prepared for `use`."""

    def seed(self, seed: int) -> None:
        """Seed whatever generators the library draws from, before an adapter is initialized or a trainer runs."""
