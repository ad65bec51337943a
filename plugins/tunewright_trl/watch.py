"""Watches a training: counts what is trained on, emits an event a step, stops what cannot teach the model anything."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transformers import TrainerCallback

from tunewright.digest import digest_bytes, digest_json
from tunewright.errors import WorkFailed
from tunewright.parts.trainer import TokenRow

_NAMED = 8
"""Row ids that an error names; the rest are counted."""


class Watch(TrainerCallback):
    """Collects a training's record. The trainer calls `trained_on` after each micro-batch, the loop calls the rest."""

    def __init__(self, rows: Iterable[TokenRow], emit: Callable[[dict[str, Any]], None]) -> None:
        self.emit = emit
        self.lengths = {row.row_id: len(row.ids) for row in rows}
        self.supervised_of = {row.row_id: supervised(row) for row in rows}
        self.order: list[str] = []
        self.losses: list[tuple[int, float]] = []
        self.learning_rate = self.highest_rate = 0.0
        self.had_gradient = False
        self.began = 0.0
        self._begin()

    def _begin(self) -> None:
        self.step_rows: list[str] = []
        self.step_loss = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of the rows trained on, each time that they were."""
        return sum(self.lengths[row] for row in self.order)

    @property
    def supervised(self) -> int:
        """Tokens that bore a loss."""
        return sum(self.supervised_of[row] for row in self.order)

    def trained_on(self, rows: list[str], loss: float) -> None:
        """One micro-batch: `loss` is its share of the step's mean loss per supervised token, in nats.

        Raises `WorkFailed` where it is not a number: before the optimizer's step, so the weights are still sound.
        """
        self.order += rows
        self.step_rows += rows
        self.step_loss += loss
        if not math.isfinite(loss):
            raise WorkFailed(
                f"the loss is {loss} at {_names(rows)}", fix="look at these rows, or lower the learning rate"
            )

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
        """One event an optimizer step."""
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

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        """A gradient can be no number where the loss still is one."""
        norm = (logs or {}).get("grad_norm")
        if norm is not None and not math.isfinite(norm):
            raise WorkFailed(
                f"the gradient's norm is {norm} at {_names(self.step_rows)}",
                fix="look at these rows, or lower the learning rate",
            )

    def conclude(self, before: str, after: str) -> None:
        """Refuse a training that changed nothing; `before` and `after` are fingerprints of the trained weights.

        Raises `WorkFailed` with the reason.
        """
        if not self.losses:
            raise WorkFailed("not one optimizer step was made", fix="give more rows, epochs or steps")
        if self.highest_rate == 0.0:
            raise WorkFailed(
                f"the learning rate was zero in each of the {len(self.losses)} steps",
                fix="make `warmup_steps` smaller than the number of steps",
            )
        if not self.had_gradient:
            raise WorkFailed(
                "no gradient reached a trained weight in any step", fix="check the adapter's targets and the rows"
            )
        if before == after:
            raise WorkFailed(
                f"the trained weights are unchanged after {len(self.losses)} steps",
                fix=f"raise `learning_rate` (highest: {self.highest_rate:g})",
            )


def supervised(row: TokenRow) -> int:
    """Tokens of a row that bear a loss. The first one never does: nothing stands before it to predict it from."""
    return sum(label != -100 for label in row.labels[1:])


def fingerprint(model: Any) -> str:
    """Digest of every trainable parameter's bytes. Raises `WorkFailed` where one holds a NaN or an infinity."""
    import torch

    digests = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            value = parameter.detach()
            if not bool(value.isfinite().all()):
                raise WorkFailed(f"the trained weight `{name}` holds values that are no numbers")
            raw = value.cpu().contiguous().view(-1).view(torch.uint8)
            digests[name] = digest_bytes(raw.numpy().tobytes())
    return digest_json(digests)


def _names(rows: list[str]) -> str:
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"rows {', '.join(rows[:_NAMED])}{more}"
