"""Continued pre-training: the domain's plain text, with TRL's SFTTrainer over packed rows."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.parts.base import Json
from tunewright_trl.loop import TrlTrainer
from tunewright_trl.options import READ, VARY, LoopOptions
from tunewright_trl.sft import TOKENS


class CptOptions(LoopOptions):
    """`{kind: cpt, max_length: 512, epochs: 1}`."""

    kind: str = "cpt"
    packing: Annotated[
        bool,
        Field(description="Join the texts and cut them into rows of `max_length` tokens, so that no batch is padded."),
    ] = True


class Cpt(TrlTrainer[CptOptions]):
    """Trains on every token of plain text by its negative log-likelihood."""

    kind: ClassVar[str] = "cpt"
    Options: ClassVar[type[CptOptions]] = CptOptions
    consumes = ("text",)
    accepts: ClassVar[str] = "trl:SFTConfig"
    fixed: ClassVar[dict[str, Json]] = TOKENS
    reads = READ | {"packing"}
    vary: ClassVar[dict[str, tuple[Json, Json]]] = {**VARY, "packing": (True, False)}
    held = "HeldSft"
    rate = 2e-5
    rate_from = "TRL's default for SFT"

    @property
    def packs(self) -> bool:
        return self.options.packing
