"""Watches a training: counts what is trained on, emits an event a step, stops what cannot teach the model anything."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from tunewright.data.mask import sequences
from tunewright.digest import digest_bytes, digest_json
from tunewright.errors import TunewrightWarning, WorkFailed
from tunewright.parts.trainer import AnyRow, TrainJob
from tunewright_trl import weights
from tunewright_trl.options import LoopOptions

_NAMED = 8
"""Row ids that an error names; the rest are counted."""
_ENDS = 64
"""Tokens at the end of a row along which logits are compared: of whole long rows they would not fit in the memory."""
_KEPT = ("order", "losses", "validation", "best_step", "highest_rate", "had_gradient")
"""What of the record a checkpoint holds."""


STATE, BEST = "watch.json", "best.safetensors"
"""A checkpoint's files of the watch: what was trained on so far, and the weights that validation prefers so far."""


class Watch(TrainerCallback):
    """Collects a training's record and says when a checkpoint is due.

    The trainer calls `trained_on` after each micro-batch, the loop calls the rest. `commit` and `resume` keep the
    record in step with the checkpoints: a training that was taken up again tells what one in a single go tells.
    """

    def __init__(self, job: TrainJob, options: LoopOptions) -> None:
        self.job, self.options, self.emit = job, options, job.emit
        self.lengths = {row.row_id: row.tokens for row in job.train}
        self.supervised_of = {row.row_id: row.supervised for row in job.train}
        self.order: list[str] = []
        self.losses: list[tuple[int, float]] = []
        self.validation: list[tuple[int, float]] = []
        self.best_step: int | None = None
        self.best: dict[str, Any] = {}
        self.learning_rate = self.highest_rate = 0.0
        self.had_gradient = self.stopped = self.awaits_look = False
        self.began = 0.0
        self.committed = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        self.step_rows: list[str] = []
        self.step_loss = 0.0

    @property
    def loraplus_lr_ratio(self) -> float | None:
        """LoRA+'s ratio, where the spec asks for it."""
        return self.options.loraplus_lr_ratio

    @property
    def by_prefix(self) -> bool:
        """Whether rows that begin alike share a batch."""
        return self.options.ordering == "by_prefix"

    @property
    def sharing(self) -> tuple[str, str]:
        """Whether rows are to share what they begin with, and why they do not; nothing where the spec lets them."""
        decided = self.job.decided.get("prefix_sharing")
        wanted = self.options.prefix_sharing if decided is None else str(decided.value)
        why = "" if decided is None else decided.why
        return wanted, why or ("the spec says `prefix_sharing: off`" if wanted == "off" else "")

    @property
    def tokens(self) -> int:
        """Tokens of the rows trained on, each time that they were."""
        return sum(self.lengths[row] for row in self.order)

    @property
    def supervised(self) -> int:
        """Tokens that bore a loss."""
        return sum(self.supervised_of[row] for row in self.order)

    def commit(self, folder: Path, step: int) -> None:
        """Put the record beside the trainer's own files, and hand the whole over."""
        state = {name: getattr(self, name) for name in _KEPT}
        (folder / STATE).write_text(json.dumps({**state, "threads": torch.get_num_threads()}))
        if self.best:
            save_file(self.best, folder / BEST)
        self.job.commit(folder, step)
        self.committed = time.monotonic()
        self.emit({"event": "checkpoint", "optimizer_step": step})

    def resume(self, folder: Path) -> None:
        """Take the record up where the checkpoint left it."""
        state = json.loads((folder / STATE).read_text())
        for name in _KEPT:
            setattr(self, name, state[name])
        self.losses = [(step, loss) for step, loss in self.losses]  # JSON has no tuples
        self.validation = [(step, loss) for step, loss in self.validation]
        if (folder / BEST).is_file():
            self.best = load_file(folder / BEST)
        # the sums of a matrix product are added up in another order with another number of threads
        torch.set_num_threads(state["threads"])

    def put_best_back(self, model: Any) -> None:
        """Leave the weights of the lowest validation loss on the model; without validation, those that it has."""
        if self.best_step is not None and self.best_step != len(self.losses):
            weights.put(model, self.best)

    def trained_on(self, rows: list[str], loss: float) -> None:
        """One micro-batch: `loss` is its share of the step's mean loss per supervised token, in nats.

        Raises `WorkFailed` where it is not a number: before the optimizer's step, so the weights are still sound.
        """
        self.order += rows
        self.step_rows += rows
        self.step_loss += loss
        if not math.isfinite(loss):
            raise WorkFailed(
                f"the loss is {loss} at {names(rows)}", fix="look at these rows, or lower the learning rate"
            )

    def looked_at(self, rows: list[str], loss: float) -> None:
        """One batch of validation rows. Raises `WorkFailed` where its mean loss is not a number."""
        if not math.isfinite(loss):
            raise WorkFailed(
                f"the loss on the validation rows is {loss} at {names(rows)}",
                fix="look at these rows, or lower the learning rate",
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Warn of a warm-up that is as long as the training: only here is it known how many steps that has."""
        warmup, steps = args.get_warmup_steps(state.max_steps), state.max_steps
        if warmup >= steps > 0:
            highest = args.learning_rate * (steps - 1) / warmup
            why = (
                f"the warm-up takes {warmup} steps and the training has {steps}: the learning rate rises to "
                f"{highest:g} and never reaches {args.learning_rate:g}; lower `warmup_steps`, or give more steps"
            )
            self.emit({"event": "warning", "why": why})
            warnings.warn(TunewrightWarning(why), stacklevel=2)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The clock of `tokens_per_second`."""
        self._begin()
        self.began = time.perf_counter()

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """The rate that this step is made with, and whether any gradient reaches a trained weight."""
        self.learning_rate = float(optimizer.param_groups[0]["lr"])
        self.highest_rate = max(self.highest_rate, self.learning_rate)
        if not self.had_gradient:
            self.had_gradient = any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One event an optimizer step; then a checkpoint, where one is due or the run is to stop."""
        tokens = sum(self.lengths[row] for row in self.step_rows)
        self.losses.append((state.global_step, self.step_loss))
        self.emit(
            {
                "event": "train",
                "optimizer_step": state.global_step,
                "optimizer_steps": state.max_steps,
                "loss": self.step_loss,
                "learning_rate": self.learning_rate,
                "tokens_per_second": tokens / (time.perf_counter() - self.began),
                "epoch": state.epoch,
            }
        )
        if state.global_step < state.max_steps:
            self.stopped = self.job.stopping()
            control.should_training_stop = control.should_training_stop or self.stopped
            due = self.stopped or self._due(state.global_step)
            # the look that ends an epoch comes after its last step, and would be left out by a resume from there
            self.awaits_look = due and args.eval_strategy == "epoch" and float(state.epoch).is_integer()
            control.should_save = due and not self.awaits_look

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The checkpoint that waited for the epoch's look; no look where the training is stopped within an epoch."""
        control.should_save = control.should_save or self.awaits_look
        control.should_evaluate = control.should_evaluate and (self.awaits_look or not self.stopped)
        self.awaits_look = False

    def _due(self, step: int) -> bool:
        every, minutes = self.options.checkpoint_every, self.options.checkpoint_minutes
        return bool(every and step % every == 0) or time.monotonic() - self.committed >= 60 * minutes

    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        metrics: Mapping[str, float] | None = None,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """A look at the validation rows: keep the weights where it is the best so far, stop where patience ends."""
        loss = float((metrics or {})["eval_loss"])
        best = min((value for _, value in self.validation), default=math.inf)
        self.validation.append((state.global_step, loss))
        self.emit({"event": "validation", "optimizer_step": state.global_step, "loss": loss})
        if loss < best:
            self.best_step = state.global_step
            self.best = weights.copied(model)
        looks_since = sum(1 for step, _ in self.validation if step > (self.best_step or 0))
        if self.options.patience is not None and looks_since >= self.options.patience:
            control.should_training_stop = True
            # nothing is left to do: from a checkpoint here, a resume would train past the end
            control.should_save = self.stopped = False

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        """A gradient can be no number where the loss still is one."""
        norm = (logs or {}).get("grad_norm")
        if norm is not None and not math.isfinite(norm):
            raise WorkFailed(
                f"the gradient's norm is {norm} at {names(self.step_rows)}",
                fix="look at these rows, or lower the learning rate",
            )

    def conclude(self, before: State, after: State) -> None:
        """Refuse a training that changed nothing; `before` and `after` are what `state_of` gave.

        Raises `WorkFailed` with the reason.
        """
        made = f"{len(self.losses)} steps on {names([row.row_id for row in self.job.train])}"
        if not self.losses:
            raise WorkFailed("not one optimizer step was made", fix="give more rows, epochs or steps")
        if self.highest_rate == 0.0:
            raise WorkFailed(
                f"the learning rate was zero in each of the {made}",
                fix="make `warmup_steps` smaller than the number of steps",
            )
        if not self.had_gradient:
            raise WorkFailed(
                f"no gradient reached a trained weight in any of the {made}",
                fix="check the adapter's targets and the rows",
            )
        if before.weights == after.weights:
            raise WorkFailed(
                f"the trained weights are unchanged after {made}",
                fix=f"raise `learning_rate` (highest: {self.highest_rate:g})",
            )
        if before.logits == after.logits:
            raise WorkFailed(
                f"the trained weights changed in {made}, and the model's logits along these rows are what they were",
                fix=f"raise `learning_rate` (highest: {self.highest_rate:g}), or check that what is trained reaches "
                "the model's output",
            )


class State(NamedTuple):
    """Digests of the trained weights, and of the logits that the model gives along the ends of some rows."""

    weights: str
    logits: str


def state_of(model: Any, rows: Sequence[AnyRow]) -> State:
    """A model as it is now, asked along the first rows. Raises `WorkFailed` where a trained weight is no number."""
    changed, training = fingerprint(model), model.training
    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # with the adapter in its layers
    ends = [one.ids[-_ENDS:] for row in rows[:_NAMED] for one in sequences(row).values()]
    model.eval()  # no dropout: nothing is drawn, and the same weights give the same logits
    try:
        with torch.no_grad():
            asked = (base(input_ids=torch.tensor([ids], device=model.device)).logits for ids in ends)
            logits = digest_json([digest_bytes(found.float().cpu().numpy().tobytes()) for found in asked])
    finally:
        model.train(training)
    return State(changed, logits)


def fingerprint(model: Any) -> str:
    """Digest of every trainable parameter's bytes. Raises `WorkFailed` where one holds a NaN or an infinity."""
    digests = {}
    for name, value in weights.trained(model).items():
        if not bool(value.isfinite().all()):
            raise WorkFailed(f"the trained weight `{name}` holds values that are no numbers")
        raw = value.cpu().contiguous().view(-1).view(torch.uint8)
        digests[name] = digest_bytes(raw.numpy().tobytes())
    return digest_json(digests)


def names(rows: Sequence[str]) -> str:
    """The first ids for an error, and how many there are besides."""
    if not rows:
        return "no row at all"
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"rows {', '.join(rows[:_NAMED])}{more}"
