"""`better_than`: what was trained is surely better than the base, or than another baseline."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.parts import Gate
from tunewright.parts.gate import Evidence, GateOptions, Verdict
from tunewright_basics.against import BASE, Baseline, Metric, found, gain, score_name, unusable

CHANCE = 0.05


class BetterThanOptions(GateOptions):
    """Options of a gate on what must be gained."""

    kind: str = "better_than"
    metric: Metric
    baseline: Baseline = BASE
    at_least: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False, description="Gain that must be surpassed, in the metric's own unit."),
    ] = 0.0


class BetterThan(Gate[BetterThanOptions]):
    """Passes where the whole 95 % interval of the difference lies beyond `at_least` on the good side, and the test says
    that chance does not explain it (p at most 0.05).

    The p-value is not Holm's: each gate asks one question that the spec put before the training, and where a run must
    pass all its gates, more of them make a false pass rarer (Berger, Technometrics 24, 1982, 295-300).
    Fails where the score is missing, is no number, or has fewer than ten items or groups.
    """

    kind = "better_than"
    Options: ClassVar = BetterThanOptions
    reads = frozenset({"metric", "baseline", "at_least"})
    vary: ClassVar = {"baseline": (BASE, "few_shot"), "at_least": (0.0, 0.3)}

    def metrics(self) -> frozenset[str]:
        return frozenset({score_name(self.options.metric, self.options.baseline)})

    def judge(self, evidence: Evidence) -> Verdict:
        name, least = score_name(self.options.metric, self.options.baseline), self.options.at_least
        by = f" by more than {least:g}" if least else ""
        asked = f"{self.options.metric} is better than {self.options.baseline}{by}"
        score = evidence.get(name)
        reason = unusable(score, name)
        if score is None or reason is not None:
            return Verdict(asked, False, reason or "")
        _, worst, _ = gain(score)
        return Verdict(asked, worst > least and score.p_value <= CHANCE, found(score))
