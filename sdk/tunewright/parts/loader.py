"""How a model folder becomes a model and a tokenizer. The only part that calls a library's `from_pretrained`.

A complete loader, for causal language models that transformers knows:

    from typing import Annotated

    from pydantic import Field
    from tunewright import BadInput
    from tunewright.parts import Loader, Options
    from tunewright.testing import check_loader

    class PlainOptions(Options):
        kind: str = "plain"
        template: Annotated[str, Field(description="Chat template in place of the model's.")] = ""

    class Plain(Loader[PlainOptions]):
        kind, Options, libraries = "plain", PlainOptions, ("torch", "transformers")
        engine = "transformers"  # the engine that asks models of this loader
        reads = frozenset({"template"})
        vary = {"template": ("", "{{ messages }}")}  # for the kit: values that make a difference

        def device(self):
            return "cpu"

        def tokenizer(self, path):
            return Words(read("AutoTokenizer", path), self.options.template)

        def model(self, path, quantizer, dtype, use):
            dtype = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[dtype]
            packed = quantizer.config()
            model = read("AutoModelForCausalLM", path, dtype=dtype, quantization_config=packed)
            quantizer.prepare(model, use)
            return model.requires_grad_(use == "train").eval()

        def seed(self, seed):
            import transformers
            transformers.set_seed(seed)

    def read(auto, path, **arguments):
        import transformers  # late: `validate` waits for no library
        safe = {"local_files_only": True, "trust_remote_code": False}
        try:
            return getattr(transformers, auto).from_pretrained(str(path), **safe, **arguments)
        except Exception as error:  # a client's folder may hold anything
            raise BadInput(f"{path.name} cannot be loaded: {error}") from error

    class Words:
        def __init__(self, native, template):
            self.native, self.end = native, native.eos_token_id
            self.stops = frozenset({self.end})
            # a BOS, where there is one
            self.begin = [i for i in native("")["input_ids"] if i != self.end]
            self.template = template or native.chat_template or ""

        def render(self, messages, *, generation_prompt):
            return self.native.apply_chat_template(
                list(messages), chat_template=self.template, tokenize=False,
                add_generation_prompt=generation_prompt)

        def encode(self, text):
            return list(self.native(text, add_special_tokens=False)["input_ids"])

        def decode(self, ids, *, special):
            return self.native.decode(list(ids), skip_special_tokens=not special)

    def test_it_keeps_its_contract(tmp_path):
        check_loader(Plain, folder=tmp_path)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from tunewright.parts.base import Backend, Json, O
from tunewright.parts.quantizer import Quantizer

Use = Literal["train", "infer"]
Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": text}`."""


class Tokenizer(Protocol):
    """What the core asks of a tokenizer: render by the model's own template, encode, decode, know where answers end."""

    def render(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """The conversation as text by the model's chat template; with `generation_prompt`, ready for the answer."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered text; adds nothing."""
        ...

    def decode(self, ids: Sequence[int], *, special: bool) -> str:
        """Text of token ids, with special tokens or without."""
        ...

    @property
    def stops(self) -> frozenset[int]:
        """Ids at which generation ends."""
        ...

    @property
    def begin(self) -> list[int]:
        """Ids that stand before a plain text, as the model was pretrained: its BOS, or none."""
        ...

    @property
    def end(self) -> int:
        """The id that ends a plain text, one of `stops`."""
        ...

    @property
    def template(self) -> str:
        """The chat template's source."""
        ...

    @property
    def native(self) -> Any:
        """The library's own tokenizer object, for trainers and exports."""
        ...


class Loader(Backend[O]):
    """Turns a model folder into a model; `engine` names the embedded engine that asks models of this loader."""

    part: ClassVar[str] = "loader"
    engine: ClassVar[str]

    @abstractmethod
    def device(self) -> str:
        """The device type that models are put on: `cpu`, `cuda`. Enters every key that depends on it."""

    @abstractmethod
    def tokenizer(self, path: Path) -> Tokenizer:
        """The tokenizer of a model folder."""

    @abstractmethod
    def model(self, path: Path, quantizer: Quantizer, dtype: str, use: Use) -> Any:
        """The model of a model folder, quantized by `quantizer`, its other weights in `dtype`, prepared for `use`."""

    def outline(self, config: Mapping[str, Json]) -> Any:
        """The model of a config.json without its numbers, on torch's meta device: `plan` tries the adapter on it.

        None where that cannot be told before the model is loaded.
        """
        return None

    def caution(self, dtype: str) -> str:
        """Why this machine is far slower in `dtype` than in fp32, for `plan` to warn of; empty where it is not."""
        return ""

    def seed(self, seed: int) -> None:
        """Seed whatever generators the library draws from, before an adapter is initialized or a trainer runs."""
