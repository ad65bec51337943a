"""The world in which parts that need a model are tried: a random Llama of two layers, and the backends around it.

The model is made on the spot, once a process, and its answers are noise; but noise that is the same every time and
differs from prompt to prompt, which is all that a check of loading, training or asking needs.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tunewright.host import Host
from tunewright.parts import AdapterMethod, Engine, Loader, Quantizer
from tunewright.parts.loader import Tokenizer, Use
from tunewright.testing import weights
from tunewright.testing.samples import ROWS, question

WORDS = 400  # size of the vocabulary
TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
PAD, TURN, END = "<|pad|>", "<|turn|>", "<|end|>"


@dataclass(frozen=True)
class World:
    """A base in a folder and the backends around it; a plugin with models of another kind brings its own.

    `teach` changes what is trainable, as a training would; `outputs` gives what a model says, as numbers or texts;
    `gradient` gives the loss's gradient towards the model's inputs, or None where there is no such thing.
    """

    base: Path
    loader: Loader
    quantizer: Quantizer
    method: AdapterMethod
    engine: Engine
    dtype: str = "fp32"
    teach: Callable[[Any], None] = weights.nudge
    outputs: Callable[[Any, Tokenizer], Any] = weights.logits
    gradient: Callable[[Any, Tokenizer], list[float]] | None = weights.input_gradient
    tokenizer: Tokenizer = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokenizer", self.loader.tokenizer(self.base))

    def load(self, quantizer: Quantizer, use: Use = "train") -> Any:
        """The base with another quantizer."""
        return self.loader.model(self.base, quantizer, self.dtype, use)

    def fresh(self, use: Use = "train") -> Any:
        """The base, loaded anew, with the loader's generators seeded."""
        self.loader.seed(0)
        return self.load(self.quantizer, use)

    def trained(self, out: Path) -> str:
        """Save into the empty folder `out` what `teach` makes of the base with the world's method; gives its digest."""
        model = self.method.wrap(self.fresh(), None)
        self.teach(model)
        self.method.save(model, out)
        return self.method.digest(model)

    def trained_apart(self, folders: Iterable[Path]) -> None:
        """Save a trained adapter into each empty folder, no two of them alike; the same ones every time."""
        model = self.method.wrap(self.fresh(), None)
        for folder in folders:
            self.teach(model)  # on from the one before
            self.method.save(model, folder)

    def calibration(self, count: int) -> list[list[int]]:
        """So many rows of token ids, as a spec's training rows would be: at most those of the kit's sample."""
        asked = (self.tokenizer.render(question(row), generation_prompt=True) for row in ROWS)
        return [self.tokenizer.encode(text) for text in asked][:count]

    def say(self, model: Any) -> Any:
        """What a model answers to the kit's questions."""
        return self.outputs(model, self.tokenizer)


@cache
def tiny_world() -> World:
    """The kit's own world, through the installed `loader/transformers`; made once a process.

    Raises `EnvironmentFault` where the extra `train` is not installed.
    """
    host = Host()
    loader = host.make("loader", {"kind": "transformers"})
    loader.device()  # imports the library, or names the extra that brings it
    folder = Path(tempfile.mkdtemp(prefix="tunewright-kit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return World(
        base=tiny_llama(folder / "base"),
        loader=loader,
        quantizer=host.make("quantizer", {"kind": "none"}),
        method=host.make("adapter", {"kind": "lora", "r": 4, "alpha": 8}),
        engine=host.make("engine", {"kind": "transformers"}),
    )


def tiny_llama(folder: Path, seed: int = 0) -> Path:
    """Write a random Llama with its tokenizer into `folder`: about 100,000 weights, 512 tokens of context."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    end = tokenizer.convert_tokens_to_ids(END)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=end, pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = end
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    """Any text goes in and comes out again: bytes, merged as the sample's own words suggest."""
    from tokenizers import Tokenizer as Native
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    native = Native(models.BPE())
    native.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    native.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=[PAD, TURN, END], initial_alphabet=letters, show_progress=False
    )
    texts = [str(value) for row in ROWS for value in row.values()]
    native.train_from_iterator([*texts, question(ROWS[0])[0]["content"]], trainer)
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=native, pad_token=PAD, eos_token=END
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
