"""TRL's trainers, held: rows that keep their names, an order of our own, checkpoints that are committed, a watch.

The training itself is TRL's: no loss, no collation and no loop is written here.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback
from trl import DPOTrainer, KTOTrainer, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunewright.data.mask import length
from tunewright.errors import BadInput
from tunewright.parts.trainer import AnyRow, FeedbackRow, PairRow, TokenRow
from tunewright_trl import weights
from tunewright_trl.fused import Fused, install
from tunewright_trl.order import ByLength, ByPrefix
from tunewright_trl.referring import batches, given_to, untrained
from tunewright_trl.sharing import SMOOTHING, not_by_model
from tunewright_trl.watch import Watch

WEIGHTS = "trained.safetensors"
"""Every parameter that is trained, by its name in the model and in its own dtype: PEFT would bring adapters in bf16
back in fp32, and ask a hub about the base each time that it saves."""


class Held:
    """Mixed in before one of TRL's trainers. It needs `save_strategy="no"` and no `save_total_limit`."""

    collator: ClassVar[type]
    args: Any
    state: Any
    model: Any
    optimizer: Any
    lr_scheduler: Any
    watch: Watch
    _given: dict[str, Any]
    _fused: Fused | None = None
    _stage: Path | None = None

    def __init__(
        self, model: Any, config: Any, tokenizer: Any, rows: Sequence[AnyRow], held: Sequence[AnyRow], watch: Watch
    ) -> None:
        """Construct TRL's trainer. A collator is always given: TRL would choose a pad token and write it into tokenizer
        and configs."""
        self.watch = watch
        self.lengths = [row.tokens for row in rows]
        self.beginnings = [row.ids if isinstance(row, TokenRow) else row.prompt for row in rows]
        self.longest = _longest([*rows, *held])
        self._given = weights.trained(model)
        try:
            super().__init__(  # type: ignore[call-arg]
                model=model,
                args=config,
                data_collator=self.collator(
                    pad_token_id=padding(tokenizer), pad_to_multiple_of=config.pad_to_multiple_of
                ),
                train_dataset=self.table(rows, config),
                eval_dataset=self.table(held, config) if held else None,
                processing_class=tokenizer,
                callbacks=[watch],
            )
        except BaseException:
            if self._fused is not None:
                self._fused.uninstall()  # the reference was asked: the model goes back as it came
            raise
        if "ref" in getattr(self.model, "peft_config", ()):
            self.model.delete_adapter("ref")  # TRL's copy: the reference is asked before training
        self._put_back()
        self._given = {}
        self.remove_callback(PrinterCallback)  # type: ignore[attr-defined]  # it prints a dictionary at each step

    def table(self, rows: Sequence[AnyRow], config: Any) -> Dataset:
        """The rows in the columns that the collator reads, and `row_id`."""
        raise NotImplementedError

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        a_step, seed = self.args.train_batch_size * self.args.gradient_accumulation_steps, self.args.seed
        if self.watch.by_prefix:
            return ByPrefix(self.beginnings, a_step, seed)
        return ByLength(self.lengths, a_step, seed)

    def _put_back(self) -> None:
        """TRL casts what is trained on a 4-bit base to bf16; the adapter method has chosen already, and a vector near 1
        (IA3) would not learn in bf16. The numbers come back as well, unrounded: a stage goes on from them."""
        for name, parameter in self.model.named_parameters():
            if name in self._given and parameter.dtype != self._given[name].dtype:
                parameter.data = self._given[name].to(parameter.device)

    def fuse(self) -> Fused:
        """Put the fast forward in the place of TRL's, once. Raises `BadInput` where rows have to share and do not."""
        if self._fused is None:
            left_alone = SMOOTHING if self.args.label_smoothing_factor else ""
            fused = install(self.model, self._unshared(), left_alone, self.longest)
            if fused.unshared and self.watch.sharing[0] == "require":
                fused.uninstall()
                fix = "take `prefix_sharing: auto`, which then computes each row whole"
                raise BadInput(f"rows cannot share what they begin with: {fused.unshared}", fix=fix)
            self._fused = fused
        return self._fused

    def _unshared(self) -> str:
        """Why rows do not share what they begin with, as far as spec and model show it."""
        _, why = self.watch.sharing
        return why or not_by_model(self.model, self.longest, self.args.pad_to_multiple_of or 1)

    def _send_telemetry(self) -> None:
        """Send none, also where the hub's client was imported before the environment said so."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: TRL would with every checkpoint, in place."""

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's optimizer; with LoRA+, PEFT's groups of parameters for it. https://arxiv.org/abs/2402.12354"""
        ratio = self.watch.loraplus_lr_ratio
        if ratio is None or self.optimizer is not None:
            return super().create_optimizer(*args, **kwargs)  # type: ignore[misc]
        from peft.optimizers import create_loraplus_optimizer

        chosen, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)  # type: ignore[attr-defined]
        settings.setdefault("weight_decay", self.args.weight_decay)
        self.optimizer = create_loraplus_optimizer(self.model, chosen, loraplus_lr_ratio=ratio, **settings)
        return self.optimizer

    def create_scheduler(self, *args: Any, **kwargs: Any) -> Any:
        """Transformers' schedule. Raises `BadInput` in its words where it refuses what it is given."""
        try:
            return super().create_scheduler(*args, **kwargs)  # type: ignore[misc]
        except (TypeError, ValueError) as error:
            fix = "correct `trainer.schedule`, `learning_rate` or `args.lr_scheduler_kwargs`"
            raise BadInput(f"the schedule is refused: {error}", fix=fix) from error

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """TRL's step on one micro-batch, told to the watch. The micro-batches' losses add up to the step's."""
        rows = inputs.pop("row_ids")
        loss = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        self.watch.trained_on(rows, loss.item())
        return loss

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's on one batch of validation rows, told to the watch."""
        rows = inputs.pop("row_ids")
        found = super().prediction_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        self.watch.looked_at(rows, float(found[0]))
        return found

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._stage or self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Everything that a resume needs, written aside and committed as a whole."""
        self._stage = Path(self.args.output_dir) / "stage"
        shutil.rmtree(self._stage, ignore_errors=True)  # what a killed process left
        self._stage.mkdir(parents=True)
        self.state.log_history.clear()  # the events have it; its seconds would make equal states unequal files
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self.watch.commit(self._stage / f"checkpoint-{self.state.global_step}", self.state.global_step)
        finally:
            shutil.rmtree(self._stage, ignore_errors=True)
            self._stage = None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The trained weights alone; only checkpoints are saved by the trainer."""
        folder = Path(output_dir or self._get_output_dir(None))
        folder.mkdir(parents=True, exist_ok=True)
        whole = {name: weight.cpu().contiguous() for name, weight in weights.trained(self.model).items()}
        save_file(whole, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        weights.put(self.model, load_file(Path(resume_from_checkpoint) / WEIGHTS))
        self.watch.resume(Path(resume_from_checkpoint))


class Named:
    """Mixed in before one of TRL's collators: the batch also tells which rows it holds, as `row_ids`."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's batch, and `row_ids`."""
        batch = super().torch_call(examples)  # type: ignore[misc]
        return {**batch, "row_ids": [example["row_id"] for example in examples]}


class NamedTokens(Named, DataCollatorForLanguageModeling):
    """`input_ids`, `labels`, `attention_mask`, each [B, L]."""


class NamedPairs(Named, DataCollatorForPreference):
    """`input_ids`, `completion_mask` …, each [2B, L], chosen first."""


class NamedFeedback(Named, DataCollatorForUnpairedPreference):
    """`input_ids`, `completion_mask` …, each [B, L], and those of the KL term."""


class HeldSft(Held, SFTTrainer):
    """Trains on proven tokens exactly as they are: nothing is rendered, cut, packed or masked here."""

    collator = NamedTokens
    _looked: list[tuple[float, int]]

    def table(self, rows: Sequence[AnyRow], config: Any) -> Dataset:
        """`input_ids` and `labels`."""
        kept = [row for row in rows if isinstance(row, TokenRow)]
        return Dataset.from_dict({
            "input_ids": [row.ids for row in kept],
            "labels": [row.labels for row in kept],
            "row_id": [row.row_id for row in kept],
        })  # fmt: skip

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As of every trainer; the batch's part of the loss is kept."""
        supervised = int((inputs["labels"][:, 1:] != -100).sum())
        found = super().prediction_step(model, inputs, *args, **kwargs)
        self._looked.append((float(found[0]) * supervised, supervised))
        return found

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's, with the mean loss over supervised tokens, as in training. Transformers weighs a batch's mean by its
        rows, so that the batch size would have a say in which weights are the best."""
        self._looked = []
        found = super().evaluation_loop(*args, **kwargs)
        losses, supervised = zip(*self._looked, strict=True)
        found.metrics["eval_loss"] = sum(losses) / sum(supervised)
        return found


class Prepared(Held):
    """A trainer with a reference model, whose log-probabilities are worked out once, before the first step."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """The rows are tokens already: tokenized anew they would be others than those that were proven."""
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """What the reference says of the rows: what the job brings, else TRL's own pass over them, in memory. TRL would
        keep it in a file by a name that knows nothing of the run."""
        columns = self.reference_columns()
        if set(columns) <= set(dataset.column_names):
            return dataset  # an evaluation again
        given = given_to(self.watch.job, columns, validation=name == "eval")
        found = self._asked(dataset) if given is None else [given[row_id] for row_id in dataset["row_id"]]
        for column in columns:
            dataset = dataset.add_column(column, [said[column] for said in found])
        return dataset

    def _asked(self, dataset: Any) -> list[dict[str, float]]:
        """What the model says of every row, by `reference_columns`. The batches are this pass's own: the numbers depend
        on no batch size of the training, nor on its order."""
        self._put_back()  # before the reference is asked: it must be what the first step begins with
        self.fuse()
        rows, device = list(dataset), self.accelerator.device  # type: ignore[attr-defined]
        found: list[dict[str, float]] = [{}] * len(rows)
        done = 0
        for places in batches(rows, self.args.precompute_ref_batch_size):
            batch = self.data_collator([rows[place] for place in places])  # type: ignore[attr-defined]
            with untrained(self.model):
                said = self._reference({name: value.to(device) for name, value in batch.items() if name != "row_ids"})
            numbers = [part.float().tolist() for part in said if part is not None]
            for place, *of_row in zip(places, *numbers, strict=True):
                found[place] = dict(zip(self.reference_columns(), of_row, strict=True))
            done += len(places)
            self.watch.emit({"event": "progress", "what": "asking the reference", "done": done, "of": len(rows)})
        return found

    def said(self, dataset: Any, rows: Sequence[AnyRow]) -> list[dict[str, float]]:
        """What the reference said of these rows, in their order."""
        columns = self.reference_columns()
        numbers = (dataset[column] for column in columns)
        by_id = dict(zip(dataset["row_id"], zip(*numbers, strict=True), strict=True))
        return [dict(zip(columns, by_id[row.row_id], strict=True)) for row in rows]

    def _reference(self, batch: dict[str, Any]) -> Any:
        """What the model says as it came. TRL would ask the adapter `ref`, into which it copies of the trained one what
        is called `.default.`: nothing of (IA)³ or VeRA, so that a second stage would be held to the base."""
        self.ref_model = self.model
        try:
            return self.compute_ref_log_probs(self.model, batch)  # type: ignore[attr-defined]
        finally:
            self.ref_model = None

    def reference_columns(self) -> list[str]:
        """What a row must have of the reference."""
        raise NotImplementedError


class HeldDpo(Prepared, DPOTrainer):
    """Trains on proven pairs; the reference is the model as it came."""

    collator = NamedPairs

    def table(self, rows: Sequence[AnyRow], config: Any) -> Dataset:
        """The prompt and both completions."""
        kept = [row for row in rows if isinstance(row, PairRow)]
        return Dataset.from_dict({
            "prompt_ids": [row.prompt for row in kept],
            "chosen_ids": [row.chosen for row in kept],
            "rejected_ids": [row.rejected for row in kept],
            "row_id": [row.row_id for row in kept],
        })  # fmt: skip

    def reference_columns(self) -> list[str]:
        """Summed log-probabilities of both completions."""
        return ["ref_chosen_logps", "ref_rejected_logps"]


class HeldKto(Prepared, KTOTrainer):
    """Trains on proven feedback.

    KTO estimates its KL term from completions under the prompts of their neighbours in the batch, which TRL fixes
    before training; so the order is drawn once, and is the same in every epoch.
    """

    collator = NamedFeedback

    def __init__(
        self, model: Any, config: Any, tokenizer: Any, rows: Sequence[AnyRow], held: Sequence[AnyRow], watch: Watch
    ) -> None:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(config.seed)).tolist()
        super().__init__(model, config, tokenizer, [rows[place] for place in order], held, watch)

    def table(self, rows: Sequence[AnyRow], config: Any) -> Dataset:
        """With the completion that each row lends its neighbour: within a batch, each gets that of the row before.

        A last row alone in its batch borrows in the batch before: TRL would lend it its own, which tells nothing.
        """
        kept = [row for row in rows if isinstance(row, FeedbackRow)]
        completions, batch = [row.completion for row in kept], config.per_device_train_batch_size
        lent = [completions[start : start + batch] for start in range(0, len(kept), batch)]
        if len(lent) > 1 and len(lent[-1]) == 1:
            lent[-2:] = [[*lent[-2], *lent[-1]]]
        kl = {"KL_completion_ids": [one for some in lent for one in (some[-1:] + some[:-1])]}
        return Dataset.from_dict({
            "prompt_ids": [row.prompt for row in kept],
            "completion_ids": completions,
            **(kl if config.loss_type == "kto" else {}),
            "label": [row.label for row in kept],
            "row_id": [row.row_id for row in kept],
        })  # fmt: skip

    def reference_columns(self) -> list[str]:
        """Summed log-probabilities of the completion, and of its neighbour's under this prompt."""
        return ["ref_logps", "ref_KL_logps"] if self.calculate_KL else ["ref_logps"]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(self.train_dataset)


def _longest(rows: Sequence[AnyRow]) -> int:
    """The most tokens that one sequence of them may have; a row may be lent another one's completion."""
    lent = max((len(row.completion) for row in rows if isinstance(row, FeedbackRow)), default=0)
    return max((max(length(row), len(getattr(row, "prompt", ())) + lent) for row in rows), default=0)


def padding(tokenizer: Any) -> int:
    """A pad token; any will do, since the attention mask hides it."""
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
