"""LoRA, QLoRA and full fine-tuning on Banking77, three seeds each: a table, with the differences paired by test row."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from realdata.runs import HERE, graded, marks, run
from tunewright.parts.evaluator import mean_of
from tunewright.stats.paired import compare

SPEC = HERE / "banking77.yaml"
SEEDS = (0, 1, 2)
FEWER = ["data.train.0.sample=160", "trainer.epochs=2"]  # nine trainings in the time of five
METHODS = {
    "QLoRA": [],
    "LoRA": ["quantization={kind: none}"],
    "full": ["quantization={kind: none}", "adapter={kind: none}", "trainer.learning_rate=5.0e-5"],  # a tenth
}
pytestmark = [pytest.mark.slow, *marks("support-banking77", hours=3)]


def answered(root, *overrides):
    """How a training's model answers each test row."""
    return graded(run(SPEC, root, *overrides, "gates=[]"), "heldout")


def pooled(by_seed):
    """All seeds' answers as one list; the answers to one row are drawn together, since they share its difficulty."""
    return [
        replace(one, item=replace(one.item, id=f"{seed} {one.item.id}", group=one.item.id))
        for seed, rows in by_seed.items()
        for one in rows
    ]


def difference(one, other):
    """Exact match of `other` minus that of `one`: a `Score`, whose interval is over test rows, not over seeds."""
    return compare(pooled(one), pooled(other), "exact_match", mean_of("exact_match"), seed=0)


def table(answers):
    """Means over seeds, and what each method has over each other: lines for a person."""
    share = mean_of("exact_match")
    for method, by_seed in answers.items():
        shares = [share(rows) for rows in by_seed.values()]
        each = "  ".join(f"{100 * one:5.1f}" for one in shares)
        yield f"{method:16} {100 * sum(shares) / len(shares):5.1f} %   each seed: {each}"
    for one, other in combinations(answers, 2):
        score = difference(answers[one], answers[other])
        low, high = (100 * bound for bound in score.ci95)
        name = f"{other} - {one}"
        yield f"{name:16} {100 * score.delta:+5.1f} points, 95 % {low:+.1f} to {high:+.1f}, p {score.p_value:.3f}"


def test_each_method_learns_the_task_and_the_table_says_how_they_differ(tmp_path):
    """Which is best is a finding about these rows and rates, and printed: no property of the code."""
    answers = {
        method: {seed: answered(tmp_path / method, *FEWER, *overrides, f"seed={seed}") for seed in SEEDS}
        for method, overrides in METHODS.items()
    }
    print("\n".join(table(answers)))
    share = mean_of("exact_match")
    for method, by_seed in answers.items():
        assert min(map(share, by_seed.values())) >= 0.65, f"{method} did not learn the task with every seed"
    for one, other in combinations(answers, 2):
        score = difference(answers[one], answers[other])
        assert score.n == len(SEEDS) * 400
        assert score.ci95[0] <= score.delta <= score.ci95[1]
