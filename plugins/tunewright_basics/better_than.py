"""`better_than`: what was trained is surely better than the base, or than another baseline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.parts import Facts, Finding
from tunewright.parts.gate import Score
from tunewright_basics.against import BASE, AgainstGate, AgainstOptions, Baseline, beyond, score_name


class BetterThanOptions(AgainstOptions):
    """Options of a gate on what must be gained."""

    kind: str = "better_than"
    baseline: Baseline = BASE
    at_least: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="Gain that must be surpassed, in the metric's own unit: 0.05 is 5 points.",
        ),
    ] = 0.0


class BetterThan(AgainstGate[BetterThanOptions]):
    """Passes where the whole 95 % interval of the difference lies beyond `at_least` on the good side, and the test says
    that chance does not explain it (p at most 0.05).

    The p-value is not Holm's: each gate asks one question that the spec put before the training, and where a run must
    pass all its gates, more of them make a false pass rarer (Berger, Technometrics 24, 1982, 295-300).
    Fails where the score is missing, is no number, or has fewer than ten items or groups.
    A biased score, such as `ece`, is refused before anything is trained; so is a gain that none can surpass.
    """

    kind = "better_than"
    Options: ClassVar = BetterThanOptions
    reads = frozenset({"metric", "baseline", "at_least"})
    vary: ClassVar = {"baseline": (BASE, "few_shot"), "at_least": (0.0, 0.3)}

    def check(self, facts: Facts) -> Iterable[Finding]:
        yield from super().check(facts)
        metric, least = self.options.metric, self.options.at_least
        yield from beyond(facts, metric, "at_least", least, "no gain can surpass it", itself=True)

    def about(self) -> str:
        return score_name(self.options.metric, self.options.baseline)

    def asked(self) -> str:
        by = f" by more than {self.options.at_least:g}" if self.options.at_least else ""
        return f"{self.options.metric} is better than {self.options.baseline}{by}"

    def holds(self, score: Score, worst: float) -> bool:
        return worst > self.options.at_least and score.beyond_chance
