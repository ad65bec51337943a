"""`non_inferior`: what was trained is surely not worse by more than a margin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.parts import Facts, Finding
from tunewright.parts.gate import Score
from tunewright_basics.against import BASE, AgainstGate, AgainstOptions, Baseline, beyond, score_name


class NonInferiorOptions(AgainstOptions):
    """Options of a gate on what may be lost."""

    kind: str = "non_inferior"
    margin: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="Loss that is still borne, in the metric's own unit: 0.05 is 5 points.",
        ),
    ]
    to: Baseline = BASE


class NonInferior(AgainstGate[NonInferiorOptions]):
    """Passes where the bad end of the 95 % interval of the difference lies inside the margin: the interval, not the
    point, so that few rows do not pass for want of evidence.

    That is a test of "worse by the margin or more" at 2.5 %, from one side. Of a metric whose small values are good,
    the other end counts. Fails where the score is missing, is no number, or has fewer than ten items or groups.
    A biased score, such as `ece`, is refused before anything is trained; so is a margin that no loss can reach.
    Source: CONSORT for non-inferiority trials, Piaggio et al., JAMA 308 (2012) 2594-2604.
    """

    kind = "non_inferior"
    Options: ClassVar = NonInferiorOptions
    reads = frozenset({"metric", "margin", "to"})
    vary: ClassVar = {"margin": (0.05, 0.25), "to": (BASE, "few_shot")}

    def check(self, facts: Facts) -> Iterable[Finding]:
        yield from super().check(facts)
        metric, margin = self.options.metric, self.options.margin
        yield from beyond(facts, metric, "margin", margin, "it would pass whatever is lost", itself=True)

    def about(self) -> str:
        return score_name(self.options.metric, self.options.to)

    def asked(self) -> str:
        return f"{self.options.metric} is not worse than {self.options.to} by {self.options.margin:g} or more"

    def holds(self, score: Score, worst: float) -> bool:
        return worst > -self.options.margin
