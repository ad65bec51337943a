"""`threshold`: a score of the tuned model reaches a bound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from tunewright.parts import Facts, Finding, Gate
from tunewright.parts.gate import Evidence, GateOptions, Verdict
from tunewright_basics.against import beyond, unusable


class ThresholdOptions(GateOptions):
    """Options of a threshold gate."""

    kind: str = "threshold"
    metric: Annotated[str, Field(description="Which score: `<evaluation>.<metric>`.")]
    at_least: Annotated[
        float | None, Field(allow_inf_nan=False, description="Smallest score of the tuned model that passes.")
    ] = None
    at_most: Annotated[
        float | None, Field(allow_inf_nan=False, description="Largest score of the tuned model that passes.")
    ] = None
    confident: Annotated[
        bool, Field(description="The whole 95 % interval of the score must reach the bound, not the score alone.")
    ] = False

    @model_validator(mode="after")
    def _one_bound(self) -> ThresholdOptions:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a threshold needs `at_least` or `at_most`")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            both = f"at least {self.at_least:g} and at most {self.at_most:g}"
            raise ValueError(f"no score is {both}: the smaller of both is `at_least`")
        return self


class Threshold(Gate[ThresholdOptions]):
    """Compares the tuned score with the bounds, or with `confident` its interval: then few rows do not pass by luck.

    With `confident` it fails where the score is no number, or has fewer than ten items or groups.
    A bound beyond what the score can be is refused before anything is trained.
    """

    kind = "threshold"
    Options: ClassVar = ThresholdOptions
    reads = frozenset({"metric", "at_least", "at_most", "confident"})
    vary: ClassVar = {"confident": (False, True)}

    def metrics(self) -> frozenset[str]:
        return frozenset({self.options.metric})

    def check(self, facts: Facts) -> Iterable[Finding]:
        metric, least, most = self.options.metric, self.options.at_least, self.options.at_most
        yield from beyond(facts, metric, "at_least", least, "no score can reach it", itself=False)
        yield from beyond(facts, metric, "at_most", most, "every score would pass", itself=False)

    def judge(self, evidence: Evidence) -> Verdict:
        score = evidence.get(self.options.metric)
        if score is None or score.n < 1:
            lacking = "there is no score" if score is None else "no row has the score"
            return Verdict(self._sentence(), False, f"{lacking} `{self.options.metric}`")
        if not self.options.confident:
            passed = self._within(score.tuned, score.tuned)
            return Verdict(self._sentence(), passed, f"it is {score.tuned:.3f} on {score.n} rows")
        if reason := unusable(score, self.options.metric):
            return Verdict(self._sentence(), False, reason)
        if score.tuned_ci95 is None:
            return Verdict(self._sentence(), False, f"there is no interval of `{self.options.metric}`")
        low, high = score.tuned_ci95
        why = f"it is {score.tuned:.3f} on {score.n} rows (95 % {low:.3f} to {high:.3f})"
        return Verdict(self._sentence(), self._within(low, high), why)

    def _within(self, low: float, high: float) -> bool:
        """Whether all from `low` to `high` is within the bounds; what is no number is not."""
        least, most = self.options.at_least, self.options.at_most
        return low <= high and (least is None or low >= least) and (most is None or high <= most)

    def _sentence(self) -> str:
        low, high = self.options.at_least, self.options.at_most
        bounds = [f"at least {low:g}" if low is not None else "", f"at most {high:g}" if high is not None else ""]
        surely = "surely " if self.options.confident else ""
        return f"{self.options.metric} is {surely}{' and '.join(filter(None, bounds))}"
