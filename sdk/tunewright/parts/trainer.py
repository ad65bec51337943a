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
        kind, Options, libraries, consumes = "loop", LoopOptions, ("torch",), ("messages",)
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt

from tunewright.parts.base import Argument, Backend, Facts, Json, LibraryOptions, O, Unkeyed
from tunewright.parts.loader import Tokenizer
from tunewright.parts.memory import Lever, Regime, Shape, Trainable
from tunewright.parts.prompt_format import RowKind


class TrainerOptions(LibraryOptions):
    """The fields of every trainer that the core itself reads."""

    max_length: Annotated[
        PositiveInt, Field(description="Longest row in tokens; a row that is longer is an error, never cut.")
    ] = 1024
    checkpoint_every: Annotated[
        PositiveInt | None, Unkeyed(), Field(description="Commit a checkpoint every N optimizer steps.")
    ] = None
    checkpoint_minutes: Annotated[
        PositiveFloat, Unkeyed(), Field(description="Commit a checkpoint when the last one is so many minutes old.")
    ] = 10.0


@dataclass(frozen=True)
class TokenRow:
    """A proven row of kind messages, completion or text.

    `labels` is -100 where nothing is supervised, else equals `ids`. Both have the same length.
    """

    row_id: str
    origin: str
    ids: list[int]
    labels: list[int]

    @property
    def tokens(self) -> int:
        """Tokens that the model reads of it."""
        return len(self.ids)

    @property
    def supervised(self) -> int:
        """Tokens that bear a loss. The first never does: nothing stands before it to predict it from."""
        return sum(label != -100 for label in self.labels[1:])


@dataclass(frozen=True)
class PairRow:
    """A proven preference: token ids of the prompt and of both completions, terminators included."""

    row_id: str
    origin: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def tokens(self) -> int:
        """Tokens that the model reads of it: the prompt stands before each completion."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)

    @property
    def supervised(self) -> int:
        """Tokens whose log-probability enters the loss."""
        return len(self.chosen) + len(self.rejected)


@dataclass(frozen=True)
class FeedbackRow:
    """A proven feedback: token ids of the prompt and of the completion, terminator included; whether it was wanted."""

    row_id: str
    origin: str
    prompt: list[int]
    completion: list[int]
    label: bool

    @property
    def tokens(self) -> int:
        """Tokens that the model reads of it."""
        return len(self.prompt) + len(self.completion)

    @property
    def supervised(self) -> int:
        """Tokens whose log-probability enters the loss."""
        return len(self.completion)


AnyRow = TokenRow | PairRow | FeedbackRow


@dataclass(frozen=True)
class Substitution:
    """What a library did instead of what was asked, and why."""

    what: str
    asked: Json
    got: Json
    why: str


class Checkpoint(NamedTuple):
    """A committed state of a training, whole and unaltered: its files are read, never written."""

    folder: Path
    step: int


class Reference(NamedTuple):
    """What a model said of rows before it was trained on them: a mapping a row, in the rows' order, of numbers by the
    trainer's own names for them, as `{"chosen": -31.2, "rejected": -29.8}`."""

    train: Sequence[Mapping[str, float]]
    validation: Sequence[Mapping[str, float]] = ()


def _keep_none(folder: Path, step: int) -> None:
    """Without a store, checkpoints lead nowhere."""


class TrainJob(NamedTuple):
    """Everything that a trainer gets. `scratch` is the only folder it may write in."""

    model: Any
    tokenizer: Tokenizer
    train: Sequence[AnyRow]
    validation: Sequence[AnyRow]
    """Rows for early stopping and selection; empty where the spec has none."""
    seed: int
    scratch: Path
    emit: Callable[[dict[str, Json]], None]
    derived: Mapping[str, Argument] = {}
    """What the trainer's own `derive` gave for this spec: arguments that depend on the other parts."""
    decided: Mapping[str, Argument] = {}
    """What its own `decide` gave for this spec."""
    resume: Checkpoint | None = None
    """Where an interrupted training of the very same job goes on; the outcome is that of one that was not."""
    commit: Callable[[Path, int], None] = _keep_none
    """`commit(folder, step)` publishes a folder of `scratch` as the checkpoint after optimizer step `step`."""
    reference: Reference | None = None
    """What the trainer's own `reference` gave for these rows, here or in an earlier run; None has it ask by itself."""
    stopping: Callable[[], bool] = bool
    """Asked after each optimizer step: once true, commit a checkpoint and return."""


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
    best_step: int | None = None
    """The step whose weights were kept, where validation chose among several."""
    validation: tuple[tuple[int, float], ...] = ()
    """(optimizer step, loss on the validation rows)."""
    stopped: bool = False
    """Whether it ended because `stopping` said so: what is trained is no result yet."""


class Trainer(Backend[O]):
    """Trains `job.model` in place."""

    part: ClassVar[str] = "trainer"
    consumes: ClassVar[tuple[RowKind, ...]]

    @property
    def packs(self) -> bool:
        """Whether `text` rows are joined and cut into rows of `max_length` tokens before they are trained on."""
        return False

    def shares(self, facts: Facts) -> str | None:
        """How rows that begin alike may come into one batch, by the option that says so: `plan` names it; nothing where
        there is none, or it is set. None where each row is computed whole."""
        return None

    def refers(self, seed: int) -> Mapping[str, Json] | None:
        """What of its options and of the seed decides over its `reference`; None where it holds a model to none.

        Everything that may change a number belongs in: what is asked once serves every run that agrees in this, in the
        rows and in the model. So leave out what only the training reads, as a learning rate.
        """
        return None

    def reference(self, job: TrainJob) -> Reference:
        """Ask `job.model` about the rows of `job` before anything is learnt; `train` gets it as `job.reference`.

        The model is the one that the training begins at, or its bare base where the adapter method's fresh weights have
        no effect on it. Nothing is `derived` or `decided` for this job. Asked only where `refers` gives something.
        """
        raise NotImplementedError(f"trainer `{self.kind}` says that it refers, and has no `reference`")

    def asks_at_once(self, longest: int) -> int | None:
        """Most tokens of rows, padding too, that `reference` asks about at once, where the longest row has `longest`;
        None where it cannot tell."""
        return None

    def lighter_reference(self) -> str:
        """Which of its options to change where `reference` runs out of memory, as "set `option: 1` for the trainer";
        nothing where none would help."""
        return ""

    def regime(self, shape: Shape, trained: Trainable, device: str, facts: Facts) -> Regime | None:
        """What a step of it takes on `device`, on a base of this shape, where `trained` learns; None where it cannot
        tell: the forecast of memory then does without."""
        return None

    def levers(self) -> Iterable[Lever]:
        """The options of its own that save memory, from what they are now: `plan --fit` tries them."""
        return ()

    @abstractmethod
    def train(self, job: TrainJob) -> TrainOutcome:
        """Train in place. Raises `WorkFailed` with row ids where the loss is not a number or nothing is learnt."""
