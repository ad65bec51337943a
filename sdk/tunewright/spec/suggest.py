"""Did you mean: the nearest known word, and the words that other tools use for the same thing."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

# What PEFT, TRL, Axolotl, LLaMA-Factory and others call it → what a spec calls it, under the part it belongs to.
FOREIGN = {
    "base_model": "model.source",
    "model_name_or_path": "model.source",
    "bnb_4bit_use_double_quant": "double_quant",
    "bnb_4bit_compute_dtype": "compute_dtype",
    "load_in_4bit": "quantization: {kind: nf4}",
    "lora_r": "r",
    "lora_rank": "r",
    "rank": "r",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "targets",
    "lora_target_modules": "targets",
    "lora_target": "targets",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "micro_batch_size": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "accumulation",
    "lr": "learning_rate",
    "lr_scheduler_type": "schedule",
    "lr_scheduler": "schedule",
    "warmup_ratio": "warmup_steps",
    "optim": "optimizer",
    "gradient_checkpointing": "checkpointing",
    "activation_checkpointing": "checkpointing",
    "max_seq_length": "max_length",
    "cutoff_len": "max_length",
    "sequence_len": "max_length",
    "datasets": "data.train",
    "dataset": "data.train",
    "torch_dtype": "dtype",
}


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A phrase with the likeliest meant word, or the known ones where none is near; empty where there are none."""
    foreign = FOREIGN.get(word, "")
    if foreign and (foreign in known or "." in foreign or ":" in foreign):
        return f"here it is called `{foreign}`"
    near = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known: {', '.join(sorted(known))}" if known else ""
