"""The families of models that are written as GGUF, and what each tensor of theirs is called there.

llama.cpp keeps the queries and keys of Llama's layers in another order than transformers does: a head's rotated pairs
stand side by side, not half a head apart. Names and the rest of an architecture come from the package `gguf`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tunewright.errors import MissingExtra, Refused

ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
"""transformers' `model_type`, and the package `gguf`'s name of the architecture."""
INTERLEAVED = ("LLAMA",)
SUFFIXES = (".weight", ".bias")
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class Placed(NamedTuple):
    """Where a tensor goes: its name in a GGUF, and how many heads its rows are reordered within (0 for none)."""

    name: str
    heads: int


class Family:
    """A model's architecture as llama.cpp knows it. Raises `Refused` for one that is not written here."""

    def __init__(self, config: Any) -> None:
        """`config` is transformers' config of the model."""
        gguf = library()
        if config.model_type not in ARCHITECTURES:
            raise Refused(
                f"models of type `{config.model_type}` are not written as GGUF here",
                fix=f"those of {', '.join(sorted(ARCHITECTURES))} are; others by llama.cpp's own converter, from the "
                "export `merged`",
            )
        kind = ARCHITECTURES[config.model_type]
        self.config, self.kind = config, kind
        self.architecture = gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH[kind]]
        self.names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind], config.num_hidden_layers)

    @property
    def head_size(self) -> int:
        """Numbers of one attention head."""
        return int(getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads)

    def place(self, name: str) -> Placed:
        """Where a tensor of the model goes, by its name in transformers. Raises `Refused` where GGUF has none."""
        found = self.names.get_name(name, try_suffixes=SUFFIXES)
        if found is None:
            raise Refused(f"GGUF has no place for the tensor `{name}` of a {self.architecture}: nothing is written",
                          fix="export it as `merged`")  # fmt: skip
        return Placed(found, self._heads(name))

    def order(self, rows: int, heads: int) -> Any:
        """The rows of queries or keys in llama.cpp's order, as numpy indices: of each head, pair by pair.

        Raises `Refused` where a model of this config has other ones.
        """
        import numpy as np

        if rows != heads * self.head_size:
            raise Refused(f"{rows} rows are none of {heads} heads of {self.head_size}: they are of another model",
                          fix="take the base that was trained on")  # fmt: skip
        return np.arange(rows).reshape(heads, 2, self.head_size // 2).swapaxes(1, 2).reshape(-1)

    def _heads(self, name: str) -> int:
        if self.kind not in INTERLEAVED:
            return 0
        module = name.split(".")[-2]
        heads = {"q_proj": self.config.num_attention_heads, "k_proj": self.config.num_key_value_heads}
        return int(heads.get(module, 0))


def library() -> Any:
    """The package `gguf`. Raises `MissingExtra`."""
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("exporter/gguf", "train", error) from error
    return gguf
