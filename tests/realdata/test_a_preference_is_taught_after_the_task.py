"""Banking77 in two stages, SFT and then DPO: confusable queues are told apart better, and the task is not lost."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter

import pytest

from realdata.pairs import both_ways, centroids, pairs_of, write_pairs
from realdata.runs import DATA, HERE, graded, marks, run
from tunewright.parts.evaluator import mean_of
from tunewright.pipeline.rows import TrainingRows, rows_of
from tunewright.project import Project
from tunewright.spec.load import load
from tunewright.stats.paired import compare

SPEC = HERE / "banking77-dpo.yaml"
FOLDER = "support-banking77"
PAIRS = 160
SCORES = (("preferred", "accuracy"), ("preferred", "margin"), ("heldout", "exact_match"))
pytestmark = marks(FOLDER)


def rows_in(name, queues):
    """(text, queue) of every row of a file that is of these queues."""
    with (DATA / FOLDER / name).open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file) if row["category"] in queues]


def overrides_for(folder):
    """Makes the pairs in `folder`; gives the overrides of the first stage alone, and of both."""
    spec = load(SPEC).data
    queues = spec["data"]["train"][0]["where"]["category"]
    train, test = rows_in("train.csv", queues), rows_in("test.csv", queues)
    centres = centroids(train)
    held_out = f"evals.1.test.0.path={write_pairs(pairs_of(test, centres), folder / 'held_out_pairs.jsonl')}"
    alone = [f"stages={json.dumps(spec['stages'][:1])}", held_out]
    used = {text for text, _ in test} | texts_learnt(alone)
    unseen = [row for row in train if row[0] not in used]
    drawn = both_ways(pairs_of(unseen, centres), PAIRS, random.Random(0))
    pairs = write_pairs(drawn, folder / "pairs.jsonl")
    return alone, [f"stages.1.data.train.0.path={pairs}", held_out]


def texts_learnt(overrides):
    """The messages that the first stage draws."""
    resolved = Project.from_spec(SPEC, overrides=overrides).resolve()
    learnt = TrainingRows(resolved.trainings[0], resolved.spec.seed).realise()
    return {row.fields["text"] for row in rows_of(learnt.train)}


def test_no_pair_is_of_a_message_that_the_first_stage_learns_or_that_is_tested(tmp_path):
    alone, both = overrides_for(tmp_path)
    training = Project.from_spec(SPEC, overrides=both).resolve().trainings[1]
    pairs = [row.fields for row in training.train[0].rows()]
    paired = {pair["text"] for pair in pairs}
    held_out = {json.loads(line)["text"] for line in (tmp_path / "held_out_pairs.jsonl").read_text().splitlines()}
    assert len(pairs) == PAIRS
    assert not paired & (texts_learnt(alone) | held_out)
    assert Counter(pair["chosen"] for pair in pairs) == Counter(pair["rejected"] for pair in pairs)


@pytest.mark.slow
def test_pairs_are_told_apart_better_and_the_task_is_not_lost(tmp_path):
    alone, both = overrides_for(tmp_path)
    task = run(SPEC, tmp_path / "root", *alone)
    preference = run(SPEC, tmp_path / "root", *both)
    status = {step["name"]: step["status"] for step in preference["steps"]}
    assert status["train-sft"] == status["evaluate-base"] == "cached"
    accuracy, margin, match = (gained(task, preference, *of) for of in SCORES)
    base = preference["scores"]["preferred.accuracy"]["base"]
    assert accuracy.tuned > accuracy.base > base
    assert margin.ci95[0] > 0
    assert match.delta >= -0.02


def gained(task, preference, evaluation, metric):
    """What the second stage adds to the first, paired by row: `base` is the score after the first."""
    before, after = graded(task, evaluation), graded(preference, evaluation)
    score = compare(before, after, metric, mean_of(metric), seed=0)
    print(evaluation, metric, score)
    return score
