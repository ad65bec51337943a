"""How the trainable parameters learn. A trainer trains; it never loads, wraps, saves or publishes.

A complete trainer, one row a step:

    import time
    from typing import Annotated

    from pydantic import Field, PositiveFloat, PositiveInt
    from tunewright import WorkFailed
    from tunewright.digest import digest_json
    from tunewright.parts import To, Trainer
    from tunewright.parts.trainer import TrainerOptions, TrainOutcome
    from tunewright.testing import check_trainer

    class LoopOptions(TrainerOptions):
        kind: str = "loop"
        epochs: Annotated[PositiveInt, Field(description="How often each row is trained on.")] = 1
        rate: Annotated[PositiveFloat, To("lr"), Field(description="Step size of SGD.")] = 0.1

    class Loop(Trainer[LoopOptions]):
        kind, Options, libraries, consumes = "loop", LoopOptions, ("torch",), "messages"
        accepts = "torch.optim:SGD"  # `args:` passes its further arguments
        reads = frozenset({"epochs", "args"})
        vary = {"epochs": (1, 2), "args": ({}, {"momentum": 0.9})}  # values that make a difference

        def train(self, job):
            import torch  # late: `validate` waits for no library
            passed = {name: argument.value for name, argument in self.arguments().items()}
            learning = [p for p in job.model.parameters() if p.requires_grad]
            optimizer, losses = torch.optim.SGD(learning, **passed), []
            rows = list(job.train) * self.options.epochs
            for step, row in enumerate(rows, 1):
                began = time.monotonic()
                ids, labels = torch.tensor([[row.ids], [row.labels]], device=job.model.device)
                loss = job.model(input_ids=ids, labels=labels).loss
                if not torch.isfinite(loss):
                    raise WorkFailed(f"the loss is no number at {row.origin}", fix="lower `rate`")
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.append((step, loss.item()))
                speed = len(row.ids) / (time.monotonic() - began)
                job.emit({"event": "train", "optimizer_step": step, "loss": loss.item(),
                          "optimizer_steps": len(rows), "learning_rate": passed["lr"],
                          "tokens_per_second": speed})
            return TrainOutcome(
                steps=len(rows), tokens=sum(len(row.ids) for row in rows),
                supervised=sum(label != -100 for row in rows for label in row.labels),
                row_order=digest_json([row.row_id for row in rows]),
                observed={name: optimizer.defaults[name] for name in passed}, losses=tuple(losses))

    def test_it_keeps_its_contract(tmp_path):
        check_trainer(Loop, folder=tmp_path)
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
