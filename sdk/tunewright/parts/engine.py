"""How a model is asked. Evaluators, parity, golden prompts and `predict` all go through one `Subject`.

A complete engine is tests/fakes/plugin.py's `FakeEngine`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Protocol

from tunewright.parts.adapter import AdapterMethod
from tunewright.parts.base import Backend, O
from tunewright.parts.loader import Loader, Message
from tunewright.parts.quantizer import Quantizer


class Served(NamedTuple):
    """A form of a model, as an engine opens it: the base, how it is loaded, and what is put on it."""

    base: Path
    loader: Loader
    quantizer: Quantizer
    dtype: str
    method: AdapterMethod | None = None
    trained: Path | None = None


@dataclass(frozen=True)
class Completion:
    """An answer: token ids with the terminator if there was one, its text without, why it stopped."""

    ids: list[int]
    text: str
    stopped: Literal["terminator", "limit"]
    prompt_ids: list[int]


class Subject(Protocol):
    """The one way to ask a model. Greedy decoding: the same question gives the same answer."""

    @property
    def identity(self) -> str:
        """Digest of the trained tensors that the model carries in memory; `base` for a bare base."""
        ...

    def complete(
        self,
        prompts: Sequence[Sequence[Message]],
        limit: int,
        progress: Callable[[int], None] | None = None,
        *,
        together: bool = True,
    ) -> list[Completion]:
        """One greedy answer a prompt, in order, of at most `limit` tokens.

        `progress` hears how many are done; `together=False` asks one by one, so that no batch changes a rounding.
        """
        ...


class Engine(Backend[O]):
    """Opens a form of a model for asking."""

    part: ClassVar[str] = "engine"

    @abstractmethod
    def open(self, served: Served) -> AbstractContextManager[Subject]:
        """Load the form and yield a subject; frees it on leaving."""
