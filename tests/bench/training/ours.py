"""Tunewright's side: the backends that a spec names, called as a run calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.host import Host
from tunewright.parts import Cap, Facts
from tunewright.parts.trainer import AnyRow, TrainJob

ADAPTER = {"kind": "lora", "r": 16, "alpha": 32, "targets": "attention+mlp"}
QUANTIZERS = {"none": {"kind": "none"}, "nf4": {"kind": "nf4", "double_quant": True}}


class Ours:
    """Loads by the loader, wraps by the adapter method, trains by the trainer."""

    def __init__(self, base: Path, quantizer: str, dtype: str, rank: int = ADAPTER["r"]) -> None:  # type: ignore[assignment]
        self.host, self.base = Host(), base
        self.loader = self.host.make("loader", {"kind": "transformers"})
        compute = {"compute_dtype": dtype} if quantizer == "nf4" else {}
        self.quantizer = self.host.make("quantizer", {**QUANTIZERS[quantizer], **compute})
        # by itself it is bf16 on a 4-bit base; every side trains it in fp32 where the machine multiplies by that alone
        own = {"dtype": "fp32"} if dtype == "fp32" else {}
        self.method = self.host.make("adapter", {**ADAPTER, "r": rank, "alpha": 2 * rank, **own})
        self.tokenizer = self.loader.tokenizer(base)
        self.model = self.method.wrap(self.loader.model(base, self.quantizer, dtype, "train"), None)

    def train(self, rows: Sequence[AnyRow], settings: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
        """One training on `rows`; `settings` are of the loop. Tells the tokens that it says it trained on, how many of
        them were computed, and why beginnings were not shared, if they were not."""
        options = {"kind": settings["kind"], **{_OURS[name]: settings[name] for name in _OURS if name in settings}}
        trainer = self.host.make("trainer", {**options, **settings.get("ours", {})})
        derived = trainer.derive(Facts(offers={"adapter": frozenset({Cap.ADAPTS})}))
        events: list[dict[str, Any]] = []
        done = trainer.train(TrainJob(self.model, self.tokenizer, rows, (), 0, scratch, events.append, derived))
        shared = next((event for event in events if event["event"] == "prefixes"), {})
        return {
            "tokens": done.tokens,
            "supervised": done.supervised,
            "computed": shared.get("computed"),
            "unshared": shared.get("unshared", ""),
        }


_OURS = {
    "batch": "batch_size", "rate": "learning_rate", "epochs": "epochs", "warmup": "warmup_steps",
    "schedule": "schedule",
}  # fmt: skip
