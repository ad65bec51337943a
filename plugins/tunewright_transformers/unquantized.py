"""`none`: the base's weights as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tunewright.parts import Cap, Facts, Finding, Options, Quantizer
from tunewright.parts.quantizer import already_packed


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
        yield from already_packed(facts.model_config)

    def config(self) -> None:
        return None
