"""`none`: the base's weights as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tunewright.parts import Cap, Facts, Finding, Options, Quantizer


class NoQuantizerOptions(Options):
    """Options of no quantization: none."""

    kind: str = "none"


class NoQuantizer(Quantizer[NoQuantizerOptions]):
    """Weights in the spec's `dtype`; they, or an adapter on them, can be trained."""

    kind = "none"
    Options: ClassVar = NoQuantizerOptions

    def offers(self) -> frozenset[Cap]:
        return frozenset({Cap.TRAINABLE, Cap.FULLY_TRAINABLE, Cap.TAKES_MERGES})

    def check(self, facts: Facts) -> Iterable[Finding]:
        """A base that is stored quantized would be loaded quantized, whatever this says."""
        if (facts.model_config or {}).get("quantization_config"):
            yield Finding(
                "base-already-quantized", "the base is already quantized", suggestion="take its unquantized weights"
            )

    def config(self) -> None:
        return None
