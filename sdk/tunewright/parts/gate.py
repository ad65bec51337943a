"""What must hold before an adapter is handed over. Missing evidence fails a gate.

A complete gate:

    from typing import Annotated

    from pydantic import Field
    from tunewright.parts import Gate
    from tunewright.parts.gate import GateOptions, Verdict
    from tunewright.testing import check_gate

    class GainOptions(GateOptions):
        kind: str = "gain"
        metric: Annotated[str, Field(description="Which score: `<evaluation>.<metric>`.")]
        at_least: Annotated[float, Field(description="The smallest gain that passes.")] = 0.0

    class Gain(Gate[GainOptions]):
        kind, Options = "gain", GainOptions
        reads = frozenset({"metric", "at_least"})

        def metrics(self):
            return frozenset({self.options.metric})

        def judge(self, evidence):
            asked = self.options.name or f"{self.options.metric} gains {self.options.at_least:g}"
            score = evidence.get(self.options.metric)
            if score is None:
                return Verdict(asked, False, "there is no such score")
            why = f"it goes from {score.base:.3f} to {score.tuned:.3f} on {score.n} rows"
            return Verdict(asked, score.delta >= self.options.at_least, why)

    def test_it_keeps_its_contract(tmp_path):
        check_gate(Gain, {"metric": "heldout.exact_match"}, folder=tmp_path)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.parts.base import Backend, O, Options

AGREEMENT, KL = "agreement", "kl"
"""What the certificate of an exported form measures besides the evaluations: the share of the trained form's answer
tokens that it gives too, and how far its distribution of the next token is from the trained form's, in nats."""


def form_score(form: str, measure: str) -> str:
    """Name of a score of an exported form's certificate: of `agreement`, `kl`, or a metric of an evaluation.

    As gates see it, `base` is what the trained form has of it, and `tuned` what the exported one has.
    """
    return f"parity.{form}.{measure}"


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
        """The scores that it needs: `<evaluation>.<metric>`, and of an exported form `parity.<form>.<measure>` as in
        `form_score`. `validate` refuses one that nothing in the spec makes."""

    @abstractmethod
    def judge(self, evidence: Mapping[str, Score]) -> Verdict:
        """Pass or fail; missing evidence is a failure."""
