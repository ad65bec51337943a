"""Tiny random models with a real tokenizer, built from a config in under a second: no network, no weights to fetch.

Their answers are noise, but they are deterministic noise that differs from prompt to prompt, which is what a test of
loading, training or asking needs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest

Family = Literal["llama", "mistral", "qwen2"]
FAMILIES: tuple[Family, ...] = ("llama", "mistral", "qwen2")

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
EOS = SPECIAL.index("<|im_end|>")
VOCABULARY = 320
_TEXT = [
    "system user assistant", "the card was declined at the shop", "where is my parcel and when does it arrive",
    "billing", "delivery_status", "account_access", "you are a helpful assistant, answer with one word",
]  # fmt: skip


def tiny_model(
    folder: Path,
    family: Family = "llama",
    *,
    dtype: str = "float32",
    window: int | None = None,
    tied: bool = True,
    heads: int = 4,
    keys: int = 2,
    layers: int = 2,
    seed: int = 0,
) -> Path:
    """Write a random model and its tokenizer into `folder` and return it.

    `heads` heads of which `keys` hold keys, width 64; `window` is the sliding window in tokens. Two layers have about
    100,000 parameters, with weights large enough that the answers are not all alike.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {**_sizes(), "num_attention_heads": heads, "num_key_value_heads": keys, "num_hidden_layers": layers}
    config = AutoConfig.for_model(family, **sizes, tie_word_embeddings=tied, **_window(family, window))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = EOS
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def _sizes() -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.2,
        "bos_token_id": 1, "eos_token_id": EOS, "pad_token_id": EOS,
    }  # fmt: skip


def _window(family: Family, window: int | None) -> dict[str, Any]:
    if family == "mistral":
        return {"sliding_window": window}
    if family == "qwen2" and window:
        return {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 1}
    return {}


@cache
def tiny_tokenizer() -> Any:
    """A byte-level BPE tokenizer with a ChatML template: any text goes in and comes out again."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    native = Tokenizer(models.BPE())
    native.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    native.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    native.train_from_iterator(
        _TEXT,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=native, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """`tiny_folder("mistral", window=16)`: the folder of such a model, made once a session. Never write into it."""

    @cache
    def make(family: Family = "llama", **options: Any) -> Path:
        return tiny_model(tmp_path_factory.mktemp(family), family, **options)

    return make


def backend(cls: type, **options: Any) -> Any:
    """A backend with these options, read as the host reads them."""
    return cls(cls.Options.model_validate({"kind": cls.kind, **options}))
