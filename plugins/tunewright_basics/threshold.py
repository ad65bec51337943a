"""`threshold`: a score of the tuned model reaches a bound."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from tunewright.parts import Gate
from tunewright.parts.gate import Evidence, GateOptions, Verdict


class ThresholdOptions(GateOptions):
    """Options of a threshold gate."""

    kind: str = "threshold"
    metric: Annotated[str, Field(description="Which score: `<evaluation>.<metric>`.")]
    at_least: Annotated[float | None, Field(description="Smallest score of the tuned model that passes.")] = None
    at_most: Annotated[float | None, Field(description="Largest score of the tuned model that passes.")] = None

    @model_validator(mode="after")
    def _one_bound(self) -> ThresholdOptions:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a threshold needs `at_least` or `at_most`")
        return self


class Threshold(Gate[ThresholdOptions]):
    """Compares the tuned score with the bounds."""

    kind = "threshold"
    Options: ClassVar = ThresholdOptions
    reads = frozenset({"metric", "at_least", "at_most"})

    def metrics(self) -> frozenset[str]:
        return frozenset({self.options.metric})

    def judge(self, evidence: Evidence) -> Verdict:
        score = evidence.get(self.options.metric)
        if score is None:
            return Verdict(self._sentence(), False, f"there is no score `{self.options.metric}`")
        low, high = self.options.at_least, self.options.at_most
        passed = (low is None or score.tuned >= low) and (high is None or score.tuned <= high)
        return Verdict(self._sentence(), passed, f"it is {score.tuned:.3f} on {score.n} rows")

    def _sentence(self) -> str:
        low, high = self.options.at_least, self.options.at_most
        bounds = [f"at least {low:g}" if low is not None else "", f"at most {high:g}" if high is not None else ""]
        return f"{self.options.metric} is {' and '.join(filter(None, bounds))}"
