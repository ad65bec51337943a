"""TRL's SFTTrainer with rows that keep their names, an order of our own, and a watch. The training itself is TRL's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tunewright.parts.trainer import TokenRow
from tunewright_trl.order import ByLength
from tunewright_trl.watch import Watch


class NamedRows(DataCollatorForLanguageModeling):
    """TRL's collator; the batch also tells which rows it holds."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's batch (`input_ids`, `labels`, `attention_mask`, each [B, L]) and `row_ids`."""
        return {**super().torch_call(examples), "row_ids": [example["row_id"] for example in examples]}


class WatchedTrainer(SFTTrainer):
    """Trains on proven rows exactly as they are: nothing is rendered, cut, packed or masked here."""

    def __init__(self, model: Any, config: SFTConfig, tokenizer: Any, rows: Sequence[TokenRow], watch: Watch) -> None:
        self.watch = watch
        self.lengths = [len(row.ids) for row in rows]
        # with a collator given, TRL does not choose a pad token and write it into tokenizer and configs;
        # any id will do, since the attention mask hides it
        pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        super().__init__(
            model=model,
            args=config,
            data_collator=NamedRows(pad_token_id=pad, pad_to_multiple_of=config.pad_to_multiple_of),
            train_dataset=_dataset(rows),
            processing_class=tokenizer,
            callbacks=[watch],
        )
        self.remove_callback(PrinterCallback)  # it prints a dictionary at each step; the watch emits events

    def _send_telemetry(self) -> None:
        """Send none, also where the hub's client was imported before the environment said so."""

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
        return ByLength(self.lengths, self.args.train_batch_size, self.args.seed)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """TRL's step on one micro-batch, told to the watch. The loss is already divided by the optimizer step's
        supervised tokens, so the micro-batches' losses add up to the mean."""
        rows = inputs.pop("row_ids")
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.watch.trained_on(rows, loss.item())
        return loss


def _dataset(rows: Sequence[TokenRow]) -> Dataset:
    return Dataset.from_dict(
        {
            "input_ids": [row.ids for row in rows],
            "labels": [row.labels for row in rows],
            "row_id": [row.row_id for row in rows],
        }
    )
