"""`merged`: base and adapter as one model, that any engine loads as it loads its base; nothing is added at each token.

From a base that was quantized for the training there are two ways. The adapter was trained, and measured, on the
weights that the quantization left: into those it is merged by default, and answers as it was measured. Into the
original weights, it stands on a better base than it has ever seen: often as good, never the model that was measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field

from tunewright.parts import Cap, Exporter, Facts, Finding, Need
from tunewright.parts.exporter import ExporterOptions, Form, Trained

APART = "export it apart from its base"


class MergingOptions(ExporterOptions):
    """Options of whatever is made of base and adapter together."""

    into: Annotated[
        Literal["original", "dequantized"] | None,
        Field(
            description="From a base that was quantized for the training: into its dequantized weights, which the "
            "adapter was trained and measured on (the default), or into its original ones."
        ),
    ] = None


class MergedOptions(MergingOptions):
    """Options of a merged model."""

    kind: str = "merged"
    dtype: Annotated[
        Literal["bf16", "fp16", "fp32"] | None,
        Field(description="Type of the merged weights, rounded once from fp32; by default `model.dtype`."),
    ] = None


M = TypeVar("M", bound=MergingOptions)


class MergingExporter(Exporter[M]):
    """What a merge needs of the spec's other parts, in whatever form it is written."""

    def needs(self) -> Iterable[Need]:
        yield Need("adapter", Cap.MERGES, "cannot-merge", APART)
        yield Need("quantizer", Cap.TAKES_MERGES, "cannot-merge", APART)

    def check(self, facts: Facts) -> Iterable[Finding]:
        """Which weights to merge into is a choice only where there are two."""
        if "quantizer" not in facts.offers:
            return
        offers = facts.offers["quantizer"]
        if self.options.into is not None and Cap.FULLY_TRAINABLE in offers:
            message = "`into` does nothing here: the base is not quantized, and has one kind of weights"
            yield Finding("argument-unused", message, "into", "leave it out", at_key=True)
        elif self.options.into != "original" and not offers & {Cap.FULLY_TRAINABLE, Cap.UNPACKS}:
            message = "what this quantization left of the base's weights cannot be unpacked to merge into"
            yield Finding("cannot-merge", message, "into", "write `into: original`")


class MergedExporter(MergingExporter[MergedOptions]):
    """A whole model, written tensor by tensor: the memory that it takes is a tensor's, not the model's."""

    kind = "merged"
    Options: ClassVar = MergedOptions
    extra = "train"
    libraries = ("torch", "safetensors")
    reads = frozenset({"dtype", "into"})
    vary: ClassVar = {"dtype": (None, "fp16")}

    def export(self, trained: Trained, out: Path) -> Form:
        """Raises `Refused` where it cannot be merged, or by a tensor's name where a number is not finite."""
        dtype = self.options.dtype or trained.dtype
        trained.merge(out, dtype, self.options.into or trained.trained_on)
        return Form(engine=trained.engine, attach=False, dtype=dtype, speaks=True)
