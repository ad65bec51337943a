"""`non_inferior` and `better_than` go by the interval, whichever way is better, and shut where nothing is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from tunewright.parts.gate import Evidence, Score
from tunewright_basics.better_than import BetterThan, BetterThanOptions
from tunewright_basics.non_inferior import NonInferior, NonInferiorOptions
from tunewright_basics.threshold import Threshold, ThresholdOptions

WORSE = Score(100, 0.5, 0.49, -0.01, (-0.04, 0.02), 0.5, clusters=100, tuned_ci95=(0.4, 0.6))
BETTER = Score(100, 0.5, 0.6, 0.1, (0.02, 0.18), 0.01, clusters=100)
UNKNOWN = float("nan")


def passes(gate, score, name="m"):
    return gate.judge(Evidence({} if score is None else {name: score})).passed


def non_inferior(**options):
    return NonInferior(NonInferiorOptions(metric="m", **options))


def better_than(**options):
    return BetterThan(BetterThanOptions(metric="m", **options))


def mirrored(score):
    """The same of a metric whose small values are good."""
    low, high = score.ci95
    return replace(
        score, base=score.tuned, tuned=score.base, delta=-score.delta, ci95=(-high, -low), lower_is_better=True
    )


@pytest.mark.parametrize(("margin", "passed"), [(0.05, True), (0.04, False), (0.02, False)])
@pytest.mark.parametrize("turned", [lambda score: score, mirrored])
def test_the_interval_and_not_the_point_must_lie_inside_the_margin(margin, passed, turned):
    assert passes(non_inferior(margin=margin), turned(WORSE)) is passed


@pytest.mark.parametrize(("least", "passed"), [(0.0, True), (0.01, True), (0.02, False), (0.05, False)])
@pytest.mark.parametrize("turned", [lambda score: score, mirrored])
def test_the_whole_interval_must_lie_beyond_the_gain(least, passed, turned):
    assert passes(better_than(at_least=least), turned(BETTER)) is passed


def test_what_is_surely_worse_is_not_better():
    assert not passes(better_than(), replace(BETTER, lower_is_better=True))
    assert not passes(non_inferior(margin=0.05), replace(BETTER, lower_is_better=True))


def test_what_chance_explains_is_not_better():
    assert not passes(better_than(), replace(BETTER, p_value=0.06))


@pytest.mark.parametrize("gate", [non_inferior(margin=0.5), better_than()])
@pytest.mark.parametrize(
    "score",
    [
        None,
        replace(BETTER, n=0, clusters=0),
        replace(BETTER, n=9, clusters=9),
        replace(BETTER, clusters=9),
        replace(BETTER, ci95=(0.02, UNKNOWN)),
        replace(BETTER, ci95=(UNKNOWN, 0.2)),
        replace(BETTER, p_value=UNKNOWN),
        replace(BETTER, tuned=float("inf")),
    ],
)
def test_missing_evidence_and_what_is_no_number_fail(gate, score):
    assert passes(gate, BETTER)
    verdict = gate.judge(Evidence({} if score is None else {"m": score}))
    assert not verdict.passed
    assert verdict.why


def test_another_baseline_is_asked_for_by_its_own_name():
    gates = [non_inferior(margin=0.5, to="few_shot"), better_than(baseline="few_shot")]
    for gate in gates:
        assert gate.metrics() == {"baseline.few_shot.m"}
        assert passes(gate, BETTER, "baseline.few_shot.m")
        assert not passes(gate, BETTER, "m"), "what is better than the base need not be better than few_shot"


def test_gates_read_like_sentences():
    evidence = Evidence({"m": WORSE})
    assert non_inferior(margin=0.05).judge(evidence).gate == "m is not worse than base by 0.05 or more"
    assert better_than(at_least=0.1).judge(evidence).gate == "m is better than base by more than 0.1"
    assert "from 0.500 to 0.490 on 100 rows, a change of -0.010 (95 % -0.040 to +0.020, p 0.5)" in (
        better_than().judge(evidence).why
    )


@pytest.mark.parametrize("margin", [0, -0.1, UNKNOWN, float("inf")])
def test_a_margin_that_bounds_nothing_is_refused(margin):
    with pytest.raises(ValidationError):
        NonInferiorOptions(metric="m", margin=margin)


@pytest.mark.parametrize(
    ("bounds", "passed"),
    [({"at_least": 0.4}, True), ({"at_least": 0.45}, False), ({"at_most": 0.6}, True), ({"at_most": 0.55}, False)],
)
def test_a_confident_threshold_goes_by_the_interval(bounds, passed):
    assert passes(Threshold(ThresholdOptions(metric="m", confident=True, **bounds)), WORSE) is passed
    assert passes(Threshold(ThresholdOptions(metric="m", **bounds)), WORSE)


def test_a_threshold_without_rows_or_interval_fails():
    assert not passes(Threshold(ThresholdOptions(metric="m", at_most=1)), replace(WORSE, n=0))
    confident = Threshold(ThresholdOptions(metric="m", at_least=0, confident=True))
    assert not passes(confident, replace(WORSE, tuned_ci95=None))
    assert not passes(confident, replace(WORSE, tuned_ci95=(UNKNOWN, UNKNOWN)))


@pytest.mark.parametrize(
    ("few", "said"), [({"n": 9, "clusters": 9}, "9 items"), ({"clusters": 1}, "1 groups of items")]
)
def test_a_confident_threshold_relies_on_no_interval_of_few(few, said):
    certain = replace(WORSE, tuned=1.0, tuned_ci95=(1.0, 1.0), **few)
    verdict = Threshold(ThresholdOptions(metric="m", at_least=0.9, confident=True)).judge(Evidence({"m": certain}))
    assert not verdict.passed
    assert f"{said} are too few for an interval: 10 are the least" in verdict.why
    assert passes(Threshold(ThresholdOptions(metric="m", at_least=0.9)), certain)
