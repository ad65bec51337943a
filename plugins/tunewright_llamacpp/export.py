"""`gguf`: base and adapter as one GGUF file, which llama.cpp and what is built on it opens.

The merged model is written into a temporary folder in the output first, and removed: for a while the disk holds
both. Tokenizer, chat template and the tokens that end an answer stand in the file itself.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunewright.parts import Facts, Finding
from tunewright.parts.exporter import Form, Trained
from tunewright_llamacpp.families import ARCHITECTURES
from tunewright_transformers.layout import LICENSES
from tunewright_transformers.merged import MergingExporter, MergingOptions

ENGINE = "llama-cpp"
MERGED = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "q8_0": "fp32"}
"""The type that is merged into on the way: each weight is rounded once."""
DTYPES = {**MERGED, "q8_0": "fp16"}
"""The type that a form is said to be opened in. llama.cpp multiplies Q8_0's integers, with scales in fp16."""


EXACT = {"cache_type": "f32"}
"""Options of the engine for a form in 32 bits: whoever takes one would see what is exact."""


class GgufOptions(MergingOptions):
    """Options of a GGUF of the whole model."""

    kind: str = "gguf"
    type: Annotated[
        Literal["f16", "bf16", "q8_0", "f32"],
        Field(description="Type of the matrices: two of 16 bits, 8 bits with a scale for 32 weights, or 32 bits."),
    ] = "f16"


class GgufExporter(MergingExporter[GgufOptions]):
    """A whole model in one file."""

    kind, engine = "gguf", ENGINE
    Options: ClassVar = GgufOptions
    extra = "train"
    libraries = ("torch", "safetensors", "gguf", "transformers")
    reads = frozenset({"type", "into"})
    vary: ClassVar = {"type": ("f16", "q8_0")}

    def check(self, facts: Facts) -> Iterable[Finding]:
        """A family that is not written as GGUF, and weights to merge into that are not there."""
        yield from unknown_family(facts)
        yield from super().check(facts)

    def export(self, trained: Trained, out: Path) -> Form:
        """Raises `Refused` where it cannot be merged, or where llama.cpp would not take the model for what it is."""
        from tunewright_llamacpp import model

        kind = self.options.type
        # in the output, since that is on the disk with room for a model
        with tempfile.TemporaryDirectory(prefix=".merged-", dir=out) as folder:
            merged = Path(folder)
            trained.merge(merged, MERGED[kind], self.options.into or trained.trained_on)
            model.write_model(merged, trained.tokenizer, out / model.FILE, kind, trained.base_name)
        for licence in sorted(trained.base.glob(LICENSES)):
            shutil.copyfile(licence, out / licence.name)
        options = EXACT if kind == "f32" else {}
        return Form(engine=self.engine, attach=False, dtype=DTYPES[kind], options=options)


def unknown_family(facts: Facts) -> Iterable[Finding]:
    """A model that no rule here knows to write, said before anything is fetched."""
    family = (facts.model_config or {}).get("model_type")
    if family is not None and family not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        yield Finding("cannot-convert", f"a model of type `{family}` is not written as GGUF here", suggestion=(
            f"those of {known} are; export `merged`, and take llama.cpp's own converter"))  # fmt: skip
