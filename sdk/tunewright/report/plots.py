"""Geometry of the report's plots, in percent of their box: the template draws them as SVG that scales and themes.

Drawn by hand, because a plot library fixes sizes and colours: one drawing cannot fit phone and paper, light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tunewright.parts.gate import Score
from tunewright.report.facts import Calibration, Sure

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
class MemoryPlot:
    """`process` and `device` are SVG points in a box of 1000 × 1000; `device` is empty where no GPU was used.

    `y` is in `unit`. `most` and `most_on_device` are the largest of the points, in bytes.
    """

    process: str
    device: str
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    unit: str
    most: int
    most_on_device: int


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


@dataclass(frozen=True)
class Mark:
    """A value and its interval, in percent of the figure's width; both ends are the value where it has none."""

    at: float
    start: float
    end: float
    known: bool


@dataclass(frozen=True)
class Band:
    """A score's marks: base and tuned in the left part of the figure, their difference in the right one."""

    name: str
    base: Mark
    tuned: Mark
    difference: Mark


@dataclass(frozen=True)
class SharesPlot:
    """Scores that are shares, one below the other: `x` are the ticks of the left part, `zero` and `right` the upright
    line and the labelled ends of the right one."""

    bands: tuple[Band, ...]
    x: tuple[Tick, ...]
    zero: float
    right: tuple[Tick, ...]


@dataclass(frozen=True)
class Curve:
    """`line` are SVG points in a box of 1000 × 1000, `dots` the same in percent with a radius in pixels."""

    line: str
    dots: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class CalibrationPlot:
    """Share right over confidence, both from 0 to 1."""

    base: Curve
    tuned: Curve


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


def memory_plot(memory: Sequence[tuple[int, int, int]]) -> MemoryPlot | None:
    """The curves of (step, bytes of the process, bytes of the GPU) from no memory on; None of fewer than two steps."""
    if len(memory) < 2:
        return None
    steps, process, device = zip(*memory, strict=True)
    most, most_on_device = max(process), max(device)
    unit, factor = ("GB", 1e9) if max(most, most_on_device) >= 1e9 else ("MB", 1e6)
    x, y = _Axis(steps[0], steps[-1]), _Axis(0.0, max(most, most_on_device) / factor)
    lines = [_path(x, y, [(step, size / factor) for step, size in zip(steps, sizes, strict=True)])
             for sizes in (process, device)]  # fmt: skip
    y_ticks = tuple(Tick(tick.label, 100 - tick.at) for tick in y.ticks(4))
    return MemoryPlot(
        lines[0], lines[1] if most_on_device else "", x.ticks(5), y_ticks, unit, most, most_on_device
    )  # fmt: skip


def interval_plots(scores: Mapping[str, Score]) -> dict[str, IntervalPlot]:
    """A plot for each score but biased ones, whose difference shows no change. Differences within ±1 share an axis;
    others, such as of perplexities, have their own."""
    scores = {name: score for name, score in scores.items() if score.compare_by is None}
    shared = [score for score in scores.values() if _fits(score)]
    common = _Axis.of(shared) if shared else None
    return {
        name: _interval(score, common if common and _fits(score) else _Axis.of([score]), shared=_fits(score))
        for name, score in scores.items()
    }


LEFT, RIGHT = (0.0, 58.0), (68.0, 100.0)
"""The two parts of the figure of shares, in percent of its width; what is between keeps their labels apart."""


def shares_plot(scores: Mapping[str, Score]) -> SharesPlot | None:
    """A figure of the scores that are shares, by name; None where none is. Biased ones are left out, as above."""
    shares = {name: score for name, score in sorted(scores.items()) if _is_share(score) and score.compare_by is None}
    if not shares:
        return None
    both, difference = _Axis(0.0, 1.0), _Axis.of(list(shares.values()))
    bands = tuple(
        Band(
            name,
            _mark(both, LEFT, score.base, score.base_ci95),
            _mark(both, LEFT, score.tuned, score.tuned_ci95),
            _mark(difference, RIGHT, score.delta, score.ci95),
        )
        for name, score in shares.items()
    )
    ends = (difference.low, difference.high)
    return SharesPlot(
        bands,
        tuple(Tick(f"{value:g}", _within(LEFT, both.at(value))) for value in (0, 0.5, 1)),
        _within(RIGHT, difference.at(0)),
        tuple(Tick(f"{value:+.6g}".replace("-", "\u2212") if value else "0", _within(RIGHT, difference.at(value)))
              for value in ends),
    )  # fmt: skip


def calibration_plot(found: Calibration) -> CalibrationPlot:
    """The reliability diagram of both sides."""
    return CalibrationPlot(_curve(found.base), _curve(found.tuned))


def _curve(bins: Sequence[Sure]) -> Curve:
    unit, most = _Axis(0.0, 1.0), max((one.count for one in bins), default=1)
    points = [(one.confidence, one.accuracy) for one in bins]
    dots = tuple(
        (
            unit.at(one.confidence),
            round(100 - unit.at(one.accuracy), 2),
            round(2.5 + 4 * math.sqrt(one.count / most), 1),
        )
        for one in bins
    )
    return Curve(_path(unit, unit, points), dots)


def _mark(axis: _Axis, part: tuple[float, float], value: float, interval: tuple[float, float] | None) -> Mark:
    low, high = interval or (value, value)
    at, start, end = (_within(part, axis.at(one)) for one in (value, low, high))
    return Mark(at, start, end, known=interval is not None)


def _within(part: tuple[float, float], percent: float) -> float:
    return round(part[0] + (part[1] - part[0]) * percent / 100, 2)


def _is_share(score: Score) -> bool:
    values = (score.base, score.tuned, *(score.base_ci95 or ()), *(score.tuned_ci95 or ()))
    return all(0 <= value <= 1 for value in values) and _fits(score)


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
