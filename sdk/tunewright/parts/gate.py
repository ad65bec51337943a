"""What must hold before an adapter is handed over. Missing evidence fails a gate.

A complete gate:

    class Faster(Gate):
        kind, Options = "faster", FasterOptions         # metric: str

        def metrics(self):
            return frozenset({self.options.metric})

        def judge(self, evidence):
            score = evidence.get(self.options.metric)
            ...
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.parts.base import Backend, O, Options


class GateOptions(Options):
    """The fields of every gate that the core itself reads."""

    name: Annotated[str | None, Field(description="How the report calls it; by default a sentence.", min_length=1)] = (
        None
    )


@dataclass(frozen=True)
class Score:
    """A score of base and tuned on the same `n` items; the interval is of the difference, 95 %, paired by item."""

    n: int
    base: float
    tuned: float
    delta: float
    ci95: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class Verdict:
    """`gate` says what was asked in a sentence, `why` what was found."""

    gate: str
    passed: bool
    why: str


class Gate(Backend[O]):
    """Judges the evidence of a run."""

    part: ClassVar[str] = "gate"

    @abstractmethod
    def metrics(self) -> frozenset[str]:
        """The `<evaluation>.<metric>` that it needs; `validate` refuses one that no evaluation makes."""

    @abstractmethod
    def judge(self, evidence: Mapping[str, Score]) -> Verdict:
        """Pass or fail; missing evidence is a failure."""
