"""Kahneman-Tversky optimization with TRL's KTOTrainer. Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from tunewright.parts.base import Json, To
from tunewright.parts.memory import Lever
from tunewright_trl import memory
from tunewright_trl.options import REFERENCE, LoopOptions
from tunewright_trl.referring import Referring


class KtoOptions(LoopOptions):
    """`{kind: kto, beta: 0.1}`."""

    kind: str = "kto"
    batch_size: Annotated[
        PositiveInt,
        To("per_device_train_batch_size"),
        Field(
            ge=2, description="Rows that are computed at once; at least 2, since each lends its neighbour an answer."
        ),
    ] = 8
    beta: Annotated[PositiveFloat, To("beta"), Field(description="How closely the model stays with the reference.")] = (
        0.1
    )
    loss: Annotated[
        Literal["kto", "apo_zero_unpaired"], To("loss_type"), Field(description="Loss over a row, by TRL's name.")
    ] = "kto"
    desirable_weight: Annotated[
        PositiveFloat, To("desirable_weight"), Field(description="Weight of the wanted rows, where they are fewer.")
    ] = 1.0
    undesirable_weight: Annotated[
        PositiveFloat, To("undesirable_weight"), Field(description="Weight of the unwanted rows, where they are fewer.")
    ] = 1.0


class Kto(Referring[KtoOptions]):
    """Trains on single answers that were wanted or not. The reference is the model as it came to this stage."""

    kind: ClassVar[str] = "kto"
    Options: ClassVar[type[KtoOptions]] = KtoOptions
    consumes = ("feedback",)
    accepts: ClassVar[str] = "trl:KTOConfig"
    fixed: ClassVar[dict[str, Json]] = {
        **REFERENCE,
        "train_sampling_strategy": "sequential",  # a batch's rows lend each other their answers
    }
    held = "HeldKto"
    rate = 1e-6
    rate_from = "TRL's default for KTO"

    def refers(self, seed: int) -> Mapping[str, Json] | None:
        """As of every trainer; and what lends each row its neighbour's answer, where the loss reads that."""
        lent = {"batch_size": self.options.batch_size, "seed": seed} if self.options.loss == "kto" else None
        return {**(super().refers(seed) or {}), "lent": lent}

    @property
    def asked(self) -> int:
        """Its own completion, and its neighbour's where the loss reads that."""
        return 2 if self.options.loss == "kto" else 1

    def levers(self) -> Iterable[Lever]:
        """As of every trainer; but with fewer rows at once, fewer lend each other their answers."""
        return memory.levers(self.options, unequal=True, borrows=self.options.loss == "kto")
