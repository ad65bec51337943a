"""What is compared, by name. Counts are such that each takes minutes on two slow cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TRAINERS = {
    "tunewright": "Tunewright",
    "trl": "TRL, defaults",
    "trl-tuned": "TRL, tuned by hand",
    "peft": "transformers + peft",
    "generate": "batched `generate`",
}
"""The sides, and what the table calls them."""


@dataclass(frozen=True)
class Figure:
    """One comparison: Tunewright, which comes first, against `others`, on the same rows."""

    about: str
    job: str
    others: tuple[str, ...]
    does: str = "train"
    kind: str = "sft"
    unit: str = "rows"
    batch: int = 8
    steps: int = 3
    """Optimizer steps of a round, where it does not say when it is done."""
    rounds: int = 3
    quantizer: str = "none"
    aims: tuple[tuple[str, str, float, float], ...] = ()
    """(measure, side, at least, aim): by which factor. Of seconds and bytes, how many times fewer."""
    settings: tuple[tuple[str, Any], ...] = ()
    """Of the loop, beside its batch and kind."""
    ours: tuple[tuple[str, Any], ...] = ()
    """Options of Tunewright's trainer that a spec of such rows would set."""

    @property
    def sides(self) -> tuple[str, ...]:
        """All sides, in the order in which they take turns."""
        return ("tunewright", *self.others)

    @property
    def count(self) -> int:
        """Rows of a round."""
        return self.batch * self.steps


FIGURES = {
    "sft-8": Figure(
        "SFT, batch 8",
        "banking77-10",
        ("trl", "trl-tuned", "peft"),
        aims=(("speed", "trl", 8, 15),),
    ),
    "sft-32": Figure(
        "SFT, batch 32",
        "banking77-10",
        ("trl", "trl-tuned", "peft"),
        batch=32,
        steps=2,
        rounds=2,
        aims=(("speed", "trl", 12, 25), ("speed", "trl-tuned", 10, 20), ("memory", "trl", 1 / 0.4, 1 / 0.3)),
    ),
    "nf4-32": Figure(
        "SFT on NF4, batch 32",
        "banking77-10",
        ("trl", "trl-tuned"),
        batch=32,
        steps=2,
        rounds=2,
        quantizer="nf4",
        aims=(("speed", "trl-tuned", 6, 12),),
    ),
    "dpo": Figure(
        "DPO, batch 8, the reference asked in it",
        "banking77-10",
        ("trl", "trl-tuned"),
        kind="dpo",
        unit="pairs",
        steps=2,
        aims=(("speed", "trl", 4, 8),),
    ),
    "tatqa": Figure(
        "SFT, rows that share documents (TAT-QA), batch 8",
        "tatqa",
        ("trl", "trl-tuned"),
        steps=2,
        rounds=2,
        aims=(("speed", "trl-tuned", 3, 5),),
        ours=(("order", "by_prefix"),),
    ),
    "pubmedqa": Figure(
        "CPT, rows that share nothing (PubMedQA), batch 8",
        "pubmedqa",
        ("trl", "trl-tuned"),
        kind="cpt",
        steps=2,
        rounds=2,
        aims=(("speed", "trl-tuned", 1.2, 2),),
    ),
    "eval-77": Figure(
        "Evaluation, 77 classes, a tuned adapter",
        "banking77",
        ("generate",),
        does="ask",
        batch=64,
        steps=1,
        aims=(("speed", "generate", 5, 12),),
    ),
    "time-80": Figure(
        "Time to 80 % exact match",
        "banking77-10",
        ("trl",),
        does="until",
        unit="",
        steps=40,
        rounds=1,
        aims=(("time", "trl", 8, 20),),
        settings=(("epochs", 3), ("warmup", 8)),
    ),
}
QUESTIONS = 100
"""Test rows that are asked while the time to an exact match is measured."""
LOOK_EVERY, LOOK_FROM, TARGET = 8, 24, 0.8
