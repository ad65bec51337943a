"""ECE is biased, and by another amount for each model: it is shown, held by `threshold`, and never compared."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from gated import problems_of
from tunewright.cli.tables import _scores as table
from tunewright.handoff.card import _figures
from tunewright.host import Host
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item
from tunewright.parts.gate import Evidence
from tunewright.pipeline.readings import readings
from tunewright.stats.holm import adjusted
from tunewright.stats.paired import compare_all
from tunewright_basics.better_than import BetterThan, BetterThanOptions
from tunewright_basics.choice import Choice, ChoiceOptions
from tunewright_basics.non_inferior import NonInferior, NonInferiorOptions
from tunewright_basics.threshold import Threshold, ThresholdOptions

BENCH = Path(__file__).parents[1] / "bench" / "gates_err.py"
CHOICE = Choice(ChoiceOptions(choices=["yes", "no"]))
GATES = {
    "non_inferior": NonInferior(NonInferiorOptions(metric="choice.ece", margin=0.9)),
    "better_than": BetterThan(BetterThanOptions(metric="choice.ece")),
}


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_gates_err_biased", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def graded(confidences, right):
    return [
        Graded(
            Item(f"i{place}", "", "", "yes", None, ("yes", "no")),
            Completion([1], "yes" if one else "no", "given", [1]),
            {"accuracy": float(one), "probability": sure if one else 1 - sure, "confidence": sure,
             "brier": 2 * (sure - one) ** 2},
        )
        for place, (sure, one) in enumerate(zip(confidences, right, strict=True))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def scores():
    """Of a base that is as often right as it is sure, and a tuned model that is always sure and rarely right."""
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 200)
    right = rng.random(200) < sure
    base, tuned = graded(sure, right), graded(np.full(200, 0.98), right)
    return {f"choice.{metric}": score for metric, score in compare_all(CHOICE, base, tuned, 0)}


def test_its_score_says_what_to_compare_by(scores):
    assert {name: score.compare_by for name, score in scores.items()} == {
        "choice.accuracy": None, "choice.probability": None, "choice.brier": None, "choice.ece": "brier",
    }  # fmt: skip


def test_holm_counts_it_among_no_claims(scores):
    found = adjusted(scores)
    assert found["choice.ece"].p_adjusted is None
    without = adjusted({name: score for name, score in scores.items() if name != "choice.ece"})
    assert {name: found[name].p_adjusted for name in without} == {n: s.p_adjusted for n, s in without.items()}


@pytest.mark.parametrize("kind", GATES)
def test_a_gate_that_compares_never_passes_by_it(scores, kind):
    best = replace(scores["choice.ece"], delta=-0.2, ci95=(-0.3, -0.1), p_value=1e-3)
    verdict = GATES[kind].judge(Evidence({"choice.ece": best}))
    assert not verdict.passed
    assert verdict.why.endswith("compare by `choice.brier`")
    assert GATES[kind].judge(Evidence({"choice.ece": replace(best, compare_by=None)})).passed


def test_a_threshold_holds_it(scores):
    held = Threshold(ThresholdOptions(metric="choice.ece", at_most=0.9, confident=True))
    assert held.judge(Evidence(scores)).passed


def test_what_is_read_of_calibration_is_read_of_the_proper_score(scores):
    assert scores["choice.ece"].p_value <= 0.05 and scores["choice.ece"].ci95[0] > 0
    said = readings(scores, [], [], 0)
    assert [sentence.split()[0] for sentence in said] == ["choice.probability", "choice.brier"][-len(said) :]
    assert readings({"choice.ece": scores["choice.ece"]}, [], [], 0) == []


def test_neither_table_nor_card_gives_it_an_interval(scores):
    assert _figures(scores["choice.ece"])[-2:] == ("biased: see brier", "")
    assert _figures(scores["choice.brier"])[-1] != ""
    console = Console(width=120, file=StringIO())
    console.print(table({name: asdict(score) for name, score in adjusted(scores).items()}))
    (row,) = [line for line in console.file.getvalue().splitlines() if line.startswith("choice.ece")]
    assert row.rstrip().endswith("biased: see brier")


@pytest.fixture(scope="module")
def host():
    return Host()


@pytest.mark.parametrize(
    ("gate", "fix"),
    [
        ("{kind: non_inferior, margin: 0.05, metric: choice.ece}", "choice.brier"),
        ("{kind: better_than, metric: choice.ece}", "choice.brier"),
        ("{kind: non_inferior, margin: 0.05, to: few_shot_1, metric: choice.ece}", "choice.brier"),
        ("{kind: non_inferior, margin: 0.05, metric: parity.adapter.choice.ece}", "parity.adapter.choice.brier"),
        ("{kind: better_than, metric: baseline.few_shot_1.choice.ece}", "baseline.few_shot_1.choice.brier"),
        ("{kind: non_inferior, margin: 0.05, metric: choice.brier}", None),
        ("{kind: threshold, at_most: 0.1, metric: choice.ece}", None),
    ],
)
def test_a_gate_that_compares_by_it_is_refused_before_a_training(tmp_path, host, gate, fix):
    found = problems_of(gate, tmp_path, host)
    metric = gate.rpartition("metric: ")[2].rstrip("}")
    wanted = (
        [] if fix is None else [("biased-difference", f"compare by `{fix}`; `threshold` may hold `{metric}` itself")]
    )
    assert [(problem.code, problem.suggestion) for problem in found] == wanted


def test_what_is_simulated_of_calibration_is_what_a_run_computes(bench):
    drawn = bench.calibration(np.random.default_rng(3), 60, 0.1)
    found = dict(compare_all(CHOICE, *(graded(drawn.sure, side.astype(bool)) for side in (drawn.base, drawn.tuned)), 0))
    ece, brier = bench.scores_of_calibration(drawn, 2_000)
    assert (ece.base, ece.tuned) == pytest.approx((found["ece"].base, found["ece"].tuned))
    assert ece.ci95 == pytest.approx(found["ece"].ci95, abs=0.03)
    assert (brier.base, brier.tuned) == pytest.approx((found["brier"].base, found["brier"].tuned))
    assert brier.ci95 == pytest.approx(found["brier"].ci95, abs=1e-9)


def test_by_the_difference_of_ece_a_lost_calibration_passes_and_by_brier_it_does_not(bench):
    false = bench.false_passes_of_calibration(400, 150)
    assert false.by_ece > 0.2
    assert false.by_brier <= 0.065
