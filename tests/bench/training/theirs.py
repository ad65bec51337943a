"""The other sides: TRL as it comes, TRL tuned by hand, and transformers with peft, as a script would call them.

What is set beside a side's defaults, and why, stands in docs/benchmarks.md, which a reader of figures sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from tunewright.parts.trainer import AnyRow

MICRO = 8
"""Rows of a batch at most where TRL is tuned for a CPU: its caches hold no more. A GPU gets the whole batch."""
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Theirs:
    """Loads by transformers, wraps by peft, trains by `side`'s trainer."""

    def __init__(self, side: str, base: Path, quantizer: str, dtype: str, rank: int = 16) -> None:
        self.side, self.dtype, self.quantizer = side, dtype, quantizer
        self.cuda = torch.cuda.is_available()
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        packed = None
        if quantizer == "nf4":
            packed = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=TYPES[dtype],
            )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=TYPES[dtype], quantization_config=packed, device_map={"": "cuda" if self.cuda else "cpu"}
        )
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model = get_peft_model(model, config, autocast_adapter_dtype=side != "trl-tuned")

    def train(self, rows: Sequence[AnyRow], settings: Mapping[str, Any], scratch: Path) -> dict[str, int]:
        """One training on `rows`; tells the tokens that it was given in its batches."""
        given = {"tokens": 0, "supervised": 0}
        before = {name: parameter.detach().clone() for name, parameter in self._trained()}
        trainer = getattr(self, f"_{settings['kind']}")(rows, settings, scratch)
        if self.quantizer != "none" and self.dtype == "fp32":  # TRL casts to bf16, and rounds, whatever the CPU can
            for name, parameter in self._trained():
                parameter.data = before[name]
        trainer.data_collator = _counting(trainer.data_collator, given)
        trainer.train()
        self._as_before()
        return given

    def _trained(self) -> list[tuple[str, Any]]:
        return [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]

    def _as_before(self) -> None:
        """Take off what TRL's trainers put on the model: the next one would put a second on top, or refuse."""
        if "ref" in self.model.peft_config:
            self.model.delete_adapter("ref")
        vars(self.model.get_base_model()).pop("forward", None)

    def _arguments(self, settings: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
        """Of transformers' loop: the job's, what a benchmark must see, and what makes the side."""
        batch, tuned = settings["batch"], self.side == "trl-tuned"
        micro = min(settings.get("micro", MICRO), batch) if tuned and not self.cuda else batch
        common = {
            "output_dir": str(scratch), "num_train_epochs": settings.get("epochs", 1),
            "per_device_train_batch_size": micro, "gradient_accumulation_steps": batch // micro,
            "learning_rate": settings["rate"], "warmup_steps": settings.get("warmup", 0),
            "lr_scheduler_type": settings.get("schedule", "linear"), "logging_steps": 1, "save_strategy": "no",
            "report_to": [], "disable_tqdm": True, "seed": 0, "use_cpu": not self.cuda,
        }  # fmt: skip
        if tuned:
            by_length = {"train_sampling_strategy": "group_by_length"} if settings["kind"] != "dpo" else {}
            fused = {"optim": "adamw_torch_fused", "dataloader_pin_memory": False}
            return {**common, "activation_checkpointing": False, "bf16": False, **by_length, **fused}
        if self.side == "trl" and self.dtype == "fp32":
            return {**common, "bf16": False}
        return common

    def _sft(self, rows: Sequence[AnyRow], settings: Mapping[str, Any], scratch: Path) -> Any:
        table = Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]})
        if self.side == "peft":
            return self._plain(table, settings, scratch)
        from trl import SFTConfig, SFTTrainer

        config = SFTConfig(
            **self._arguments(settings, scratch), max_length=None, dataset_kwargs={"skip_prepare_dataset": True}
        )
        return SFTTrainer(self.model, config, train_dataset=table, processing_class=self.tokenizer)

    _cpt = _sft  # the rows are packed already

    def _plain(self, table: Dataset, settings: Mapping[str, Any], scratch: Path) -> Any:
        from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

        return Trainer(
            self.model,
            TrainingArguments(**self._arguments(settings, scratch)),
            data_collator=DataCollatorForSeq2Seq(self.tokenizer, label_pad_token_id=-100),
            train_dataset=table,
        )

    def _dpo(self, rows: Sequence[AnyRow], settings: Mapping[str, Any], scratch: Path) -> Any:
        from trl import DPOConfig, DPOTrainer

        class Tokens(DPOTrainer):
            """The rows are tokens already."""

            def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
                return dataset

        table = Dataset.from_dict({
            "prompt_ids": [row.prompt for row in rows],
            "chosen_ids": [row.chosen for row in rows],
            "rejected_ids": [row.rejected for row in rows],
        })  # fmt: skip
        once = {"precompute_ref_log_probs": True} if self.side == "trl-tuned" else {}
        config = DPOConfig(**self._arguments(settings, scratch), **once, max_length=None)
        return Tokens(self.model, args=config, train_dataset=table, processing_class=self.tokenizer)


def _counting(collate: Callable[[Any], Any], given: dict[str, int]) -> Callable[[Any], Any]:
    """A collator that also counts what the model is given, padding aside."""

    def counted(examples: Any) -> Any:
        batch = collate(examples)
        given["tokens"] += int(batch["attention_mask"].sum())
        labels = batch.get("labels")
        supervised = batch["completion_mask"].sum() if labels is None else (labels[:, 1:] != -100).sum()
        given["supervised"] += int(supervised)
        return batch

    return counted
