"""How a base's weights are stored: one backend a scheme.

A complete quantizer, the one that does nothing:

    class NoQuantizer(Quantizer):
        kind, Options = "none", NoOptions

        def offers(self):
            return frozenset({Cap.TRAINABLE, Cap.FULLY_TRAINABLE})

        def config(self):
            return None
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

from tunewright.parts.base import Backend, O


class Quantizer(Backend[O]):
    """Describes a quantization to the loader, and prepares a model that was loaded with it."""

    part: ClassVar[str] = "quantizer"
    caveat: ClassVar[str] = ""
    """What anyone should know who loads the base with the library alone; it stands in the model card."""

    @abstractmethod
    def config(self) -> Any:
        """The library's quantization config for loading (transformers' `QuantizationConfigMixin`), or None."""

    def prepare(self, model: Any, use: Literal["train", "infer"]) -> None:
        """Right after loading: set what the scheme needs on the model, in place."""

    def describe(self) -> dict[str, Any]:
        """What the library alone needs to load the base the same way; plain JSON, {} for no quantization."""
        return {}
