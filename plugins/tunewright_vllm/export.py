"""`vllm`: the trained form as vLLM loads it, with the command that serves it beside its base.

Its names are vLLM's own: https://docs.vllm.ai, "LoRA Adapters". A rank bound that is served is one of a fixed list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.errors import Refused, WorkFailed
from tunewright.parts import Cap, Need
from tunewright.parts.base import Name
from tunewright.parts.exporter import ExporterOptions, Form, Trained
from tunewright_transformers.export import AdapterExporter
from tunewright_vllm import script
from tunewright_vllm.shipped import write_plugin

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Bounds that `--max-lora-rank` takes."""


class VllmOptions(ExporterOptions):
    """Options of an export for vLLM."""

    kind: str = "vllm"
    served_name: Annotated[
        Name, Field(description="What requests call the model; the base answers under its own name.")
    ] = "tuned"


class VllmExporter(AdapterExporter):
    """The adapter's files and tokenizer, and a script that serves them on this machine alone, in the type that they
    were trained in. vLLM packs no base while it loads one: what it serves is measured on the base's own files."""

    kind = "vllm"
    Options: ClassVar = VllmOptions
    on_stored = True
    reads = frozenset({"served_name"})
    vary: ClassVar = {"served_name": ("tuned", "acme")}

    def needs(self) -> Iterable[Need]:
        why = f"it loads plain LoRA: no DoRA, no `modules_to_save`, ranks up to {RANKS[-1]}"
        yield Need("adapter", Cap.VLLM, "target-cannot-load", why)

    def export(self, trained: Trained, out: Path) -> Form:
        """Raises `WorkFailed` where the adapter's rank is above what vLLM serves."""
        form = super().export(trained, out)
        (out / script.FILE).write_text(self._script(trained, out), "utf-8")
        if trained.adapts:
            write_plugin(out / script.PATCH)
        return form

    def _script(self, trained: Trained, out: Path) -> str:
        name = self.options.served_name
        if not trained.adapts:
            return script.of_model(name, trained.dtype)
        try:
            bound = rank_bound(out)
        except OSError as error:
            raise Refused("what was trained has no adapter_config.json: vLLM loads no other adapter") from error
        return script.of_adapter(name, trained, bound)


def rank_bound(adapter: Path) -> int:
    """What `--max-lora-rank` is to be for the adapter in a folder. Raises `WorkFailed` where vLLM serves none so high,
    `OSError` or `ValueError` where its adapter_config.json cannot be read."""
    config: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    rank = max([config.get("r", 1), *(config.get("rank_pattern") or {}).values()])
    if rank > RANKS[-1]:
        raise WorkFailed(f"the adapter has rank {rank}, vLLM serves up to {RANKS[-1]}", fix="train a lower rank")
    return min(bound for bound in RANKS if bound >= rank)
