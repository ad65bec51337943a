"""A transformers tokenizer, as the core asks for one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.errors import BadInput
from tunewright.parts.loader import Message


@dataclass(frozen=True)
class ChatTokenizer:
    """Renders by the model's own template in the library's sandbox, encodes and decodes without adding anything."""

    native: Any
    stops: frozenset[int]

    @property
    def begin(self) -> list[int]:
        """What the tokenizer itself puts before a text: BOS for Llama and Mistral, nothing for Qwen."""
        return [token for token in self.native("")["input_ids"] if token not in self.stops]

    @property
    def end(self) -> int:
        """The tokenizer's EOS, or the smallest stop id where it has none."""
        eos: int | None = self.native.eos_token_id
        return min(self.stops) if eos is None else eos

    @property
    def template(self) -> str:
        """The chat template's source; empty where the model has none."""
        return self.native.get_chat_template() if self.native.chat_template else ""

    def render(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """The conversation as text. Raises `BadInput` where there is no template, or the template refuses it."""
        from jinja2.exceptions import TemplateError

        if not self.template:
            raise BadInput(
                "the model has no chat template", fix="take an instruction-tuned model, or add chat_template.jinja"
            )
        try:
            return self.native.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generation_prompt
            )
        except TemplateError as error:
            raise BadInput(f"the model's chat template refuses the conversation: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Token ids; special tokens written in the text are recognized, none are added."""
        return list(self.native(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int], *, special: bool) -> str:
        """Text of token ids, as it is: spaces before punctuation are kept."""
        return self.native.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)


def stop_ids(native: Any, path: Path) -> frozenset[int]:
    """Ids at which answers end: the tokenizer's, and the generation config's (config.json's where there is none)."""
    found = {native.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        if (path / name).is_file():
            said = json.loads((path / name).read_text("utf-8")).get("eos_token_id")
            found |= set(said if isinstance(said, list) else [said])
            break
    return frozenset(stop for stop in found if stop is not None)
