"""Trainers that hold a model to a reference: what it said of every row before training, asked apart from it.

The reference is asked in batches of its own, so that its numbers depend on no option of the training: a row's number
rounds otherwise in another batch (see docs/how-to/train-in-stages.md), and one key would stand for several numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunewright.errors import Refused
from tunewright.parts.base import Json, O
from tunewright.parts.trainer import Reference, TrainJob
from tunewright_trl.loop import TrlTrainer, release

AT_ONCE = 8192
"""Tokens of a batch, padding too, where `precompute_ref_batch_size` says nothing; a longer row is a batch by itself."""

OF_TRAINING = frozenset({
    "kind", "max_length", "epochs", "max_steps", "batch_size", "accumulation", "learning_rate", "loraplus_lr_ratio",
    "schedule", "warmup_steps", "optimizer", "weight_decay", "max_grad_norm", "neftune_alpha", "checkpointing",
    "eval_every", "patience", "keep", "order", "args",
    # of the losses over what the model and the reference say
    "beta", "loss", "loss_weights", "label_smoothing", "desirable_weight", "undesirable_weight",
})  # fmt: skip
"""Options that the reference does not read; one that is not named here is in its key."""
ARGS_OF_TRAINING = frozenset({
    "activation_checkpointing_kwargs", "adam_beta1", "adam_beta2", "adam_epsilon", "discopop_tau",
    "f_alpha_divergence_coef", "f_divergence_type", "lr_scheduler_kwargs", "optim_args",
})  # fmt: skip
"""The same of `args`."""


class Referring(TrlTrainer[O]):
    """A backend over one of TRL's trainers that have a reference."""

    def refers(self, seed: int) -> Mapping[str, Json] | None:
        """Every option but those that only the training reads."""
        options = self.settings()
        further = {name: value for name, value in options["args"].items() if name not in ARGS_OF_TRAINING}
        return {**{name: value for name, value in options.items() if name not in OF_TRAINING}, "args": further}

    def asks_at_once(self, longest: int) -> int:
        """As `batches` makes them."""
        a_row = longest * self.asked
        size = self._size()
        return max(AT_ONCE, a_row) if size is None else size * a_row

    def lighter_reference(self) -> str:
        """Rows at once: of the training's options, none would help."""
        size = self._size()
        if size == 1:
            return ""
        now = f"up to {AT_ONCE:,} tokens" if size is None else f"{size} rows"
        return f"set `args: {{precompute_ref_batch_size: 1}}` for the trainer, which asks about {now} at once"

    def _size(self) -> int | None:
        size = self.options.args.get("precompute_ref_batch_size")
        return size if isinstance(size, int) else None

    @property
    def asked(self) -> int:
        """Sequences of a row that the reference is asked about."""
        return self.sequences

    def reference(self, job: TrainJob) -> Reference:
        """TRL's own pass over the rows, by the trainer that would train on them. Raises `BadInput` as `train` does."""
        from tunewright_trl.around import preserved, quiet
        from tunewright_trl.watch import Watch

        with quiet(), preserved(job.model, job.tokenizer.native):
            job.model._hf_peft_config_loaded = True  # else transformers takes no packed base; nothing is trained here
            trainer: Any = self._trainer(job._replace(reference=None), Watch(job, self.options))
            try:
                held = trainer.said(trainer.eval_dataset, job.validation) if job.validation else ()
                return Reference(trainer.said(trainer.train_dataset, job.train), held)
            finally:
                trainer.fuse().uninstall()
                release(trainer)


def batches(rows: Sequence[Mapping[str, Any]], size: int | None) -> Iterator[list[int]]:
    """The places of the rows, in batches of like lengths, the longest first: where memory ends, it ends at once.

    `rows` have `prompt_ids` and the ids of one or two completions. The same rows make the same batches in any order.
    """
    lengths = [_longest(row) for row in rows]
    batch: list[int] = []
    for place in sorted(range(len(rows)), key=lambda place: (-lengths[place], rows[place]["row_id"])):
        most = size or max(1, AT_ONCE // (lengths[batch[0] if batch else place] * _sequences(rows[place])))
        if len(batch) >= most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _longest(row: Mapping[str, Any]) -> int:
    return len(row["prompt_ids"]) + max(len(row[name]) for name in _completions(row))


def _sequences(row: Mapping[str, Any]) -> int:
    return len(_completions(row))


def _completions(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row if name.endswith("_ids") and name != "prompt_ids"]


def given_to(job: TrainJob, columns: Sequence[str], *, validation: bool) -> Mapping[str, Mapping[str, float]] | None:
    """What a job brings of the reference, by row; None where it is to be asked. Raises `Refused` where it is of other
    rows, or of another trainer."""
    if job.reference is None:
        return None
    rows = job.validation if validation else job.train
    said = job.reference.validation if validation else job.reference.train
    if len(rows) != len(said) or any(set(columns) - set(numbers) for numbers in said):
        raise Refused("the reference that this training is given is of other rows, or of another trainer",
                      fix="give it what its own `reference` gave for these rows, or none")  # fmt: skip
    return {row.row_id: numbers for row, numbers in zip(rows, said, strict=True)}


@contextlib.contextmanager
def untrained(model: Any) -> Iterator[None]:
    """No parameter wants a gradient: else the head of a bare base would be scored by TRL's kernel for trained ones."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
