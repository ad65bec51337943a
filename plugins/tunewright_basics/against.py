"""What the gates that compare have in common: which score they ask for, and when nothing can be said by it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated, TypeVar

from pydantic import Field

from tunewright.parts import Facts, Finding, Gate
from tunewright.parts.gate import Evidence, GateOptions, Score, Verdict, baseline_score

BASE = "base"
FEWEST = 10
"""Items, or groups of them, below which no interval is relied on."""

Metric = Annotated[str, Field(description="Which score: `<evaluation>.<metric>`.")]
Baseline = Annotated[
    str, Field(min_length=1, description="What it is compared with: `base`, or a baseline of the spec by its name.")
]


class AgainstOptions(GateOptions):
    """Options of every gate on a difference."""

    metric: Metric


A = TypeVar("A", bound=AgainstOptions)


class AgainstGate(Gate[A]):
    """A gate on the difference to the base or to a baseline: what cannot be judged fails it."""

    def metrics(self) -> frozenset[str]:
        return frozenset({self.about()})

    def check(self, facts: Facts) -> Iterable[Finding]:
        metric = self.options.metric
        if metric in facts.biased:
            message = f"`{metric}` is biased, and by another amount for each model: its difference proves nothing"
            fix = f"compare by `{facts.biased[metric]}`; `threshold` may hold `{metric}` itself"
            yield Finding("biased-difference", message, "metric", fix)

    def judge(self, evidence: Evidence) -> Verdict:
        score = evidence.get(self.about())
        reason = unusable(score, self.about()) or (score and incomparable(score, self.about()))
        if score is None or reason is not None:
            return Verdict(self.asked(), False, reason or "")
        _, worst, _ = gain(score)
        return Verdict(self.asked(), self.holds(score, worst), found(score))

    @abstractmethod
    def about(self) -> str:
        """The score that it judges, as the evidence calls it."""

    @abstractmethod
    def asked(self) -> str:
        """What is demanded, in a sentence."""

    @abstractmethod
    def holds(self, score: Score, worst: float) -> bool:
        """Whether it does; `worst` is the end of the interval that is worse, as a gain."""


def beyond(facts: Facts, metric: str, name: str, value: float | None, then: str, *, itself: bool) -> Iterable[Finding]:
    """That the option `name` lies beyond what the score can be, so that `then`; nothing where it does not, or where
    the score has no known bound. `itself`: the bound itself is beyond too."""
    most = facts.largest.get(metric)
    if value is None or most is None or value < most or (value == most and not itself):
        return
    message = f"`{metric}` is from 0 to {most:g}, and `{name}` is {value:g}: {then}"
    points = f"{value:g} point{'' if value == 1 else 's'}"
    fix = f"write {value / 100:g} for {points}" if value / 100 < most else f"write a value below {most:g}"
    yield Finding("bound-beyond-score", message, name, fix)


def score_name(metric: str, baseline: str) -> str:
    """How the evidence calls a score against `base` or against another baseline."""
    return metric if baseline == BASE else baseline_score(baseline, metric)


def unusable(score: Score | None, name: str) -> str | None:
    """Why a score says nothing about a difference; None where it does."""
    if score is None:
        return f"there is no score `{name}`"
    if not all(map(math.isfinite, (score.base, score.tuned, score.delta, *score.ci95, score.p_value))):
        return f"`{name}` is no number"
    few = score.clusters or score.n
    if few < FEWEST:
        return f"{few} {'groups of ' if few < score.n else ''}items are too few for an interval: {FEWEST} are the least"
    return None


def incomparable(score: Score, name: str) -> str | None:
    """Why a score's difference proves nothing, whatever its interval; None where it does."""
    if score.compare_by is None:
        return None
    instead = f"{name.rpartition('.')[0]}.{score.compare_by}"
    return f"`{name}` is biased by another amount for each model: compare by `{instead}`"


def gain(score: Score) -> tuple[float, float, float]:
    """The difference and the ends of its interval, as gains: above 0 is better whichever way the metric goes."""
    low, high = score.ci95
    # 0.0 - x, not -x: a loss of nothing is not written as -0
    return (0.0 - score.delta, 0.0 - high, 0.0 - low) if score.lower_is_better else (score.delta, low, high)


def found(score: Score) -> str:
    """From what to what, and how far off that may be."""
    low, high = score.ci95
    grouped = f" in {score.clusters} groups" if 0 < score.clusters < score.n else ""
    return (
        f"it goes from {score.base:.3f} to {score.tuned:.3f} on {score.n} rows{grouped}, "
        f"a change of {score.delta:+.3f} (95 % {low:+.3f} to {high:+.3f}, p {score.p_value:.2g})"
    )
