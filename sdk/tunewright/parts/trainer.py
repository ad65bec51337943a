"""How the trainable parameters learn. A trainer trains; it never loads, wraps, saves or publishes.

A complete trainer is tests/fakes/plugin.py's `FakeTrainer`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field, PositiveInt

from tunewright.parts.base import Backend, Json, LibraryOptions, O
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import RowKind


class TrainerOptions(LibraryOptions):
    """The fields of every trainer that the core itself reads."""

    max_length: Annotated[
        PositiveInt, Field(description="Longest row in tokens; a row that is longer is an error, never cut.")
    ] = 1024


@dataclass(frozen=True)
class TokenRow:
    """A proven row: `labels` is -100 where nothing is supervised, else equals `ids`. Both have the same length."""

    row_id: str
    origin: str
    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Substitution:
    """What a library did instead of what was asked, and why."""

    what: str
    asked: Json
    got: Json
    why: str


class TrainJob(NamedTuple):
    """Everything that a trainer gets. `scratch` is the only folder it may write in."""

    model: Any
    tokenizer: Tokenizer
    train: Sequence[TokenRow]
    validation: Sequence[TokenRow]
    seed: int
    scratch: Path
    emit: Callable[[dict[str, Json]], None]


@dataclass(frozen=True)
class TrainOutcome:
    """What happened. `tokens` counts the tokens of the rows trained on, `supervised` those that bore a loss."""

    steps: int
    tokens: int
    supervised: int
    row_order: str
    """Digest of the sequence of row ids, in the order in which they were trained on."""
    observed: Mapping[str, Json]
    """The library's arguments as they were after training."""
    substituted: tuple[Substitution, ...] = ()
    losses: tuple[tuple[int, float], ...] = field(default=())
    """(optimizer step, mean loss per supervised token in nats)."""


class Trainer(Backend[O]):
    """Trains `job.model` in place."""

    part: ClassVar[str] = "trainer"
    consumes: ClassVar[RowKind]

    @abstractmethod
    def train(self, job: TrainJob) -> TrainOutcome:
        """Train in place. Raises `WorkFailed` with row ids where the loss is not a number or nothing is learnt."""
