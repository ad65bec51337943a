"""Geometry of the report's two plots, in percent of their box: the template draws them as SVG that scales and themes.

Drawn by hand, because a plot library fixes sizes and colours: one drawing cannot fit phone and paper, light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tunewright.parts.gate import Score

MOST_POINTS = 400


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in percent from the left or the top."""

    label: str
    at: float


@dataclass(frozen=True)
class LossPlot:
    """`each` and `mean` are SVG points in a box of 1000 × 1000; `mean` is empty where there are few steps.

    `first` and `last` are the losses at its ends, `around` is how many points a mean covers, `steps_a_point` how many
    steps were averaged into one point, `undefined` how many steps had a loss that is no finite number.
    """

    each: str
    mean: str
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    first: float
    last: float
    around: int
    steps_a_point: int
    undefined: int


@dataclass(frozen=True)
class IntervalPlot:
    """A difference and its interval, in percent of the axis from `low` to `high`."""

    low: float
    high: float
    zero: float
    start: float
    end: float
    delta: float
    shared: bool


def loss_plot(loss: Sequence[tuple[int, float]]) -> LossPlot | None:
    """The curve of (step, loss); None where fewer than two steps have a finite loss."""
    finite = [(step, value) for step, value in loss if math.isfinite(value)]
    if len(finite) < 2:
        return None
    size = math.ceil(len(finite) / MOST_POINTS)
    points = [_middle(finite[start : start + size]) for start in range(0, len(finite), size)]
    half = len(points) // 40
    means = _running_mean([value for _, value in points], half)
    x = _Axis(points[0][0], points[-1][0])
    y = _Axis(min(0.0, *(value for _, value in points)), max(value for _, value in points))
    return LossPlot(
        each=_path(x, y, points),
        mean=_path(x, y, [(step, mean) for (step, _), mean in zip(points, means, strict=True)]) if half else "",
        x=x.ticks(5),
        y=tuple(Tick(tick.label, 100 - tick.at) for tick in y.ticks(4)),
        first=finite[0][1],
        last=finite[-1][1],
        around=2 * half + 1,
        steps_a_point=size,
        undefined=len(loss) - len(finite),
    )


def interval_plots(scores: Mapping[str, Score]) -> dict[str, IntervalPlot]:
    """A plot for each score. Differences within ±1 share an axis; others, such as of perplexities, have their own."""
    shared = [score for score in scores.values() if _fits(score)]
    common = _Axis.of(shared) if shared else None
    return {
        name: _interval(score, common if common and _fits(score) else _Axis.of([score]), shared=_fits(score))
        for name, score in scores.items()
    }


class _Axis:
    """From `low` to `high`, both inside; a single value gets room around it."""

    def __init__(self, low: float, high: float) -> None:
        room = 0.0 if high > low else max(abs(high), 1.0) / 2
        self.low, self.high = low - room, high + room

    @classmethod
    def of(cls, scores: Sequence[Score]) -> _Axis:
        """Wide enough for every difference, its interval and zero; it ends at round numbers."""
        values = [0.0, *(value for score in scores for value in (*score.ci95, score.delta))]
        tight = cls(min(values), max(values))
        step = tight.step(10)
        return cls(step * math.floor(tight.low / step + 1e-9), step * math.ceil(tight.high / step - 1e-9))

    def at(self, value: float) -> float:
        """Percent of the way."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def step(self, about: int) -> float:
        """1, 2 or 5 times a power of ten, so that at most `about` of them fit."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        return next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)

    def ticks(self, about: int) -> tuple[Tick, ...]:
        """The round numbers along it."""
        step = self.step(about)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(Tick(f"{n * step:,.{digits}f}", self.at(n * step)) for n in range(first, last + 1))


def _middle(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    steps, values = zip(*points, strict=True)
    return (sum(steps) / len(steps), sum(values) / len(values))


def _running_mean(values: Sequence[float], half: int) -> list[float]:
    sums = [0.0, *accumulate(values)]
    bounds = [(max(0, place - half), min(len(values), place + half + 1)) for place in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in bounds]


def _path(x: _Axis, y: _Axis, points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{10 * x.at(step):.1f},{1000 - 10 * y.at(value):.1f}" for step, value in points)


def _fits(score: Score) -> bool:
    return all(abs(value) <= 1 for value in (*score.ci95, score.delta))


def _interval(score: Score, axis: _Axis, *, shared: bool) -> IntervalPlot:
    low, high = score.ci95
    return IntervalPlot(axis.low, axis.high, axis.at(0), axis.at(low), axis.at(high), axis.at(score.delta), shared)
