"""Attention of our own in the library's models: functions that they find by name, and models that look for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

PLAIN = "sdpa"
"""The library's own attention, in whose place ours can be: others cap scores, or have sinks."""


def register(name: str, attend: Callable[..., Any], *, masked: bool = False) -> None:
    """Let models attend by this function. They make no mask for it, unless it is to be `masked` as `PLAIN` is."""
    ALL_ATTENTION_FUNCTIONS.register(name, attend)
    if masked:
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[PLAIN])


class Attending:
    """While it lasts, `model` attends by the function of this name; as a context manager, or until `stop`.

    Raises `ValueError` where the model's attention is not `PLAIN`.
    """

    def __init__(self, model: Any, name: str) -> None:
        self._config = model.config.get_text_config()
        self.heads: int = self._config.num_attention_heads
        """Of queries."""
        if self._config._attn_implementation != PLAIN:
            raise ValueError(f"its attention is `{self._config._attn_implementation}`")
        self._config._attn_implementation = name

    def stop(self) -> None:
        """Put back what was there."""
        self._config._attn_implementation = PLAIN

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()
