"""Where points, intervals and ticks stand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.parts.gate import Score
from tunewright.report.plots import MOST_POINTS, interval_plots, loss_plot, memory_plot


def score(delta: float, low: float, high: float) -> Score:
    return Score(10, 0.0, delta, delta, (low, high), 0.5)


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (point.split(",") for point in path.split())]


def test_the_curve_goes_from_edge_to_edge_and_zero_is_at_the_bottom():
    plot = loss_plot([(0, 4.0), (5, 2.0), (10, 0.0)])
    assert plot is not None
    assert points(plot.each) == [(0, 0), (500, 500), (1000, 1000)]
    assert plot.mean == ""
    assert [(tick.label, tick.at) for tick in plot.y] == [("0", 100), ("1", 75), ("2", 50), ("3", 25), ("4", 0)]
    assert [tick.label for tick in plot.x] == ["0", "2", "4", "6", "8", "10"]


def test_a_long_training_is_averaged_into_few_points():
    plot = loss_plot([(step, float(step % 2)) for step in range(2000)])
    assert plot is not None
    assert plot.steps_a_point == 5
    assert len(points(plot.each)) == MOST_POINTS
    means = [y for _, y in points(plot.mean)][20:-20]
    assert max(means) - min(means) < 40  # of 1000, where the single points jump by 333


def test_memory_is_drawn_from_nothing_on_in_a_unit_that_fits():
    plot = memory_plot([(1, 1_000_000_000, 0), (2, 2_000_000_000, 0), (3, 1_500_000_000, 0)])
    assert plot is not None
    assert points(plot.process) == [(0, 500), (500, 0), (1000, 250)]
    assert (plot.device, plot.unit, plot.most) == ("", "GB", 2_000_000_000)
    assert [(tick.label, tick.at) for tick in plot.y][:2] == [("0.0", 100), ("0.5", 75)]
    both = memory_plot([(1, 5_000_000, 20_000_000), (2, 10_000_000, 40_000_000)])
    assert both is not None
    assert points(both.device) == [(0, 500), (1000, 0)]
    assert points(both.process) == [(0, 875), (1000, 750)]
    assert (both.unit, both.most_on_device) == ("MB", 40_000_000)
    assert memory_plot([(1, 5, 0)]) is None


def test_losses_that_are_no_number_are_left_out_and_counted():
    plot = loss_plot([(1, 1.0), (2, float("nan")), (3, float("inf")), (4, 0.5)])
    assert plot is not None
    assert (plot.undefined, plot.first, plot.last) == (2, 1.0, 0.5)
    assert loss_plot([(1, 1.0), (2, float("nan"))]) is None


def test_differences_of_shares_stand_on_one_axis_and_others_on_their_own():
    plots = interval_plots({"a": score(0.9, 0.8, 0.96), "b": score(-0.02, -0.11, 0.07), "c": score(-6.6, -8.9, -4.1)})
    assert (plots["a"].low, plots["a"].high) == (plots["b"].low, plots["b"].high) == pytest.approx((-0.2, 1.0))
    assert plots["a"].shared
    assert not plots["c"].shared
    assert (plots["c"].low, plots["c"].high) == (-9.0, 0.0)
    assert plots["c"].zero == 100.0


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_an_interval_stays_inside_its_axis(delta, below, above):
    plot = interval_plots({"a": score(delta, delta - below, delta + above)})["a"]
    assert 0 <= plot.start <= plot.delta <= plot.end <= 100
    assert 0 <= plot.zero <= 100


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=60))
def test_any_curve_stays_inside_its_box(losses):
    plot = loss_plot(list(enumerate(losses)))
    assert plot is not None
    assert all(-0.1 <= value <= 1000.1 for point in points(f"{plot.each} {plot.mean}") for value in point)
    assert all(0 <= tick.at <= 100 for tick in (*plot.x, *plot.y))
    assert len(plot.y) <= 12
