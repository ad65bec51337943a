"""A random Llama with adapters, a tokenizer and rows: everything a training needs, built in milliseconds."""

from __future__ import annotations

import importlib
import random
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tunewright.parts.trainer import FeedbackRow, PairRow, TokenRow, TrainJob
from tunewright_trl import tunewright_backends

VOCABULARY = 97


@dataclass
class Tokens:
    """As much of a tokenizer as a trainer reads."""

    native: Any


def tokenizer() -> Tokens:
    words = {f"t{i}": i for i in range(VOCABULARY)}
    inner = Tokenizer(models.WordLevel(words, unk_token="t0"))
    return Tokens(PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="t2"))


def llama(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    settings = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.2,
        "eos_token_id": 2, "bos_token_id": 1,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes}))


def adapted(model: Any = None, dropout: float = 0.0) -> Any:
    """Llama with LoRA whose B is not zero, so that every adapter weight has a gradient."""
    torch.manual_seed(1)
    everywhere = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    wrapped = get_peft_model(model or llama(), LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, **everywhere))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return wrapped


def token_rows(count: int = 12, seed: int = 0) -> list[TokenRow]:
    """Ragged rows with a prompt that bears no loss and a completion of one to five tokens that does."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        prompt = [draw.randrange(3, VOCABULARY) for _ in range(draw.randint(3, 20))]
        answer = [draw.randrange(3, VOCABULARY) for _ in range(draw.randint(1, 5))]
        labels = [-100] * len(prompt) + answer
        rows.append(TokenRow(f"row-{number}", f"rows.csv:{number + 2}", prompt + answer, labels))
    return rows


def pair_rows(count: int = 12, seed: int = 0) -> list[PairRow]:
    """Ragged pairs: a prompt, and two answers to it of one to five tokens."""
    rows, draw = token_rows(count, seed), random.Random(seed + 1)
    pairs = []
    for row in rows:
        start = row.labels.count(-100)
        worse = [draw.randrange(3, VOCABULARY) for _ in range(draw.randint(1, 5))]
        pairs.append(PairRow(row.row_id, row.origin, row.ids[:start], row.ids[start:], worse))
    return pairs


def feedback_rows(count: int = 12, seed: int = 0) -> list[FeedbackRow]:
    """The pairs' better answers as wanted, their worse ones as not."""
    rows = []
    for number, row in enumerate(pair_rows(count, seed)):
        wanted = number % 2 == 0
        rows.append(FeedbackRow(row.row_id, row.origin, row.prompt, row.chosen if wanted else row.rejected, wanted))
    return rows


@dataclass
class Trained:
    """A training's job, what it said, and its outcome."""

    job: TrainJob
    events: list[dict[str, Any]] = field(default_factory=list)
    outcome: Any = None

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The events of optimizer steps."""
        return [event for event in self.events if event["event"] == "train"]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return {name: p.detach() for name, p in self.job.model.named_parameters() if p.requires_grad}


def what_is_read(model: Any, monkeypatch: Any) -> list[tuple[list[int], list[int]]]:
    """Fills with (ids, labels) of every sequence that the model is given, padding aside, which must bear no loss."""
    seen: list[tuple[list[int], list[int]]] = []
    forward = type(model).forward

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        for ids, labels, mask in zip(kwargs["input_ids"], kwargs["labels"], kwargs["attention_mask"], strict=True):
            length = int(mask.sum())
            assert (labels[length:] == -100).all()
            seen.append((ids[:length].tolist(), labels[:length].tolist()))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", spy)
    return seen


def references(trainer: Any, module: Any, monkeypatch: Any) -> list[Any]:
    """Fills with the rows that `trainer`'s reference pass gives back; a second model from TRL's `module` is refused."""
    found: list[Any] = []
    passed = trainer._precompute_ref_logps

    def spy(self: Any, *args: Any) -> Any:
        found.append(passed(self, *args))
        return found[-1]

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a second model was loaded")

    monkeypatch.setattr(trainer, "_precompute_ref_logps", spy)
    monkeypatch.setattr(module, "create_model_from_path", refuse)
    return found


ROWS = {"sft": token_rows, "cpt": token_rows, "dpo": pair_rows, "kto": feedback_rows}


def trainer(kind: str, options: dict[str, Any]) -> Any:
    """The backend `trainer/<kind>` with these options."""
    module, _, name = tunewright_backends()[f"trainer/{kind}"].partition(":")
    backend = getattr(importlib.import_module(module), name)
    return backend(backend.Options.model_validate(options))
