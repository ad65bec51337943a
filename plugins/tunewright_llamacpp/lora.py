"""`gguf-lora`: the adapter alone as GGUF, for llama.cpp's `--lora` beside a GGUF of the base."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from tunewright.errors import Refused
from tunewright.parts import Cap, Exporter, Facts, Finding, Need
from tunewright.parts.exporter import ExporterOptions, Form, Trained
from tunewright_llamacpp.export import ENGINE, EXACT, unknown_family

WHY = (
    "it loads plain LoRA on projections: no DoRA, no `modules_to_save`, no `alpha_pattern`, nothing on embeddings or "
    "head"
)
PACKED = "llama.cpp does not hold the base as it was trained on: export `gguf`, which merges into what was"


class GgufLoraOptions(ExporterOptions):
    """Options of a GGUF of the adapter: none beyond its name."""

    kind: str = "gguf-lora"


class GgufLoraExporter(Exporter[GgufLoraOptions]):
    """The trained numbers themselves, in fp32: adapters are small, and nothing of one is rounded away."""

    kind, engine = "gguf-lora", ENGINE
    Options: ClassVar = GgufLoraOptions
    attaches = True
    extra = "train"
    libraries = ("torch", "safetensors", "gguf", "transformers")

    def needs(self) -> Iterable[Need]:
        yield Need("adapter", Cap.LLAMACPP, "target-cannot-load", WHY)
        yield Need("adapter", Cap.ADAPTS, "target-cannot-load", "export the whole model, as `gguf`")
        yield Need("quantizer", Cap.FULLY_TRAINABLE, "target-cannot-load", PACKED)

    def check(self, facts: Facts) -> Iterable[Finding]:
        """A family that is not written as GGUF."""
        return unknown_family(facts)

    def export(self, trained: Trained, out: Path) -> Form:
        """Raises `Refused` by a tensor's name where one has no place in a GGUF."""
        from tunewright_llamacpp import adapter

        if not trained.adapts:
            raise Refused("what was trained is a whole model, and no adapter", fix="export it as `gguf`")
        name = f"{trained.base_name}-lora"
        adapter.write_adapter(trained.saved, trained.base, out / adapter.FILE, name, trained.identity)
        exact = trained.whole is not None and trained.dtype == "fp32"
        return Form(engine=self.engine, attach=True, options=EXACT if exact else {})
