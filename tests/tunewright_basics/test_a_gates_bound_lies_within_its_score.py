"""A gate's bound that its score can never meet, or always does, is refused before anything is trained."""

from __future__ import annotations

import pytest

from gated import SPEC, problems_of
from tunewright.host import Host


@pytest.fixture(scope="module")
def host():
    return Host()


@pytest.fixture
def problems(tmp_path, host):
    return lambda gate: problems_of(gate, tmp_path, host)


@pytest.mark.parametrize(
    ("gate", "fix"),
    [
        ("{kind: non_inferior, metric: heldout.exact_match, margin: 5}", "write 0.05 for 5 points"),
        ("{kind: non_inferior, metric: heldout.exact_match, margin: 1}", "write 0.01 for 1 point"),
        ("{kind: non_inferior, metric: heldout.exact_match, margin: 500}", "write a value below 1"),
        ("{kind: non_inferior, metric: heldout.exact_match, to: few_shot_1, margin: 5}", "write 0.05 for 5 points"),
        ("{kind: non_inferior, metric: parity.adapter.agreement, margin: 2}", "write 0.02 for 2 points"),
        ("{kind: non_inferior, metric: choice.brier, margin: 2}", "write 0.02 for 2 points"),
        ("{kind: non_inferior, metric: desk-suite.routing, margin: 5}", "write 0.05 for 5 points"),
        ("{kind: better_than, metric: choice.accuracy, at_least: 10}", "write 0.1 for 10 points"),
        ("{kind: threshold, metric: heldout.exact_match, at_least: 80}", "write 0.8 for 80 points"),
        ("{kind: threshold, metric: choice.ece, at_most: 10}", "write 0.1 for 10 points"),
        ("{kind: threshold, metric: baseline.few_shot_1.heldout.over_refusal, at_most: 5}", "write 0.05 for 5 points"),
    ],
)
def test_points_where_the_score_is_a_share_are_refused_with_what_to_write(problems, gate, fix):
    (problem,) = problems(gate)
    assert (problem.code, problem.suggestion) == ("bound-beyond-score", fix)
    key = next(key for key in ("margin", "at_least", "at_most") if key in gate)
    line = SPEC.replace("GATE", gate).splitlines()[problem.position.line - 1]
    assert line.strip() == f"- {gate}"
    assert line[problem.position.column - 1 :].startswith(gate.partition(f"{key}: ")[2].rstrip("}"))


@pytest.mark.parametrize(
    "gate",
    [
        "{kind: non_inferior, metric: heldout.exact_match, margin: 0.99}",
        "{kind: non_inferior, metric: choice.brier, margin: 1.5}",
        "{kind: non_inferior, metric: perplexity.perplexity, margin: 5}",
        "{kind: better_than, metric: perplexity.nll, at_least: 2}",
        "{kind: threshold, metric: perplexity.perplexity, at_most: 17.9}",
        "{kind: threshold, metric: parity.adapter.kl, at_most: 3}",
        "{kind: threshold, metric: heldout.exact_match, at_least: 1}",
        "{kind: threshold, metric: heldout.over_refusal, at_most: 1}",
    ],
)
def test_what_a_score_can_reach_and_any_bound_of_a_score_without_one_is_taken(problems, gate):
    assert problems(gate) == []


def test_a_threshold_that_no_score_can_pass_is_refused(problems):
    (problem,) = problems("{kind: threshold, metric: heldout.exact_match, at_least: 0.9, at_most: 0.1}")
    assert problem.code == "bad-value"
    assert "no score is at least 0.9 and at most 0.1" in problem.message
    assert problems("{kind: threshold, metric: heldout.exact_match, at_least: 0.9, at_most: 0.9}") == []
