"""Supervised fine-tuning with TRL's SFTTrainer. The library's classes are imported when a training starts."""

from __future__ import annotations

from typing import ClassVar

from tunewright.parts.base import Json
from tunewright_trl.loop import TrlTrainer
from tunewright_trl.options import FIXED, ORDERED, READ, VARY, OrderedOptions

TOKENS: dict[str, Json] = {**FIXED, "dataset_kwargs": {"skip_prepare_dataset": True}, "packing": False}
"""What is fixed where SFTTrainer gets proven tokens: it neither prepares nor packs them."""


class SftOptions(OrderedOptions):
    """`{kind: sft, epochs: 2, batch_size: 16, learning_rate: 2.0e-4}`."""

    kind: str = "sft"


class Sft(TrlTrainer[SftOptions]):
    """Trains on the supervised tokens of each row by their negative log-likelihood."""

    kind: ClassVar[str] = "sft"
    Options: ClassVar[type[SftOptions]] = SftOptions
    consumes = ("messages", "completion")
    accepts: ClassVar[str] = "trl:SFTConfig"
    fixed: ClassVar[dict[str, Json]] = TOKENS
    reads = READ | ORDERED.keys()
    vary: ClassVar[dict[str, tuple[Json, Json]]] = {**VARY, **ORDERED}
    held = "HeldSft"
    rate = 2e-5
    rate_from = "TRL's default for SFT"
