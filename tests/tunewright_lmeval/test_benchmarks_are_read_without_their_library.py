"""`validate` reads a benchmark's options where lm_eval is not installed, and `plan` names the extra that brings it."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from pydantic import ValidationError

from tiny import backend
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item
from tunewright_lmeval import library
from tunewright_lmeval.evaluator import LmEval
from tunewright_lmeval.metrics import LOWER, PIECES, USUAL, grades_of, summary_of

SCRIPT = """
import sys
for name in ("lm_eval", "torch", "transformers", "datasets", "numpy"):
    sys.modules[name] = None  # importing it is now an ImportError
from tunewright_lmeval.evaluator import LmEval
made = LmEval(LmEval.Options(tasks=["arc_easy", "piqa"], metrics=["acc", "word_perplexity"]))
print(sorted(made.summaries()), sorted(made.lower_is_better()), [need.cap.name for need in made.needs()])
"""


def graded(rows):
    return [Graded(Item(str(n), "", "", ""), Completion([], "", "given", []), grades) for n, grades in enumerate(rows)]


def test_scores_are_named_without_any_library():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "['arc_easy.acc', 'arc_easy.word_perplexity', 'piqa.acc', 'piqa.word_perplexity'] "
        "['arc_easy.word_perplexity', 'piqa.word_perplexity'] ['SCORES']"
    )


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    made = backend(LmEval, tasks=["arc_easy"])
    assert made.lacking() == 'it needs lm_eval: pip install "tunewright[lm-eval]"'
    assert made.signature()  # a plan can be shown, and says what is lacking


@pytest.mark.parametrize(("options", "says"), [
    ({}, "tasks"),
    ({"tasks": []}, "at least 1"),
    ({"tasks": ["a"], "metrics": []}, "at least 1"),
    ({"tasks": ["a"], "limit": 0}, "greater than 0"),
    ({"tasks": ["a"], "few_shot": -1}, "greater than or equal to 0"),
    ({"tasks": ["a"], "max_length": 1}, "greater than or equal to 2"),
    ({"tasks": ["a"], "num_fewshot": 1}, "Extra inputs"),
])  # fmt: skip
def test_options_are_checked(options, says):
    with pytest.raises(ValidationError, match=says):
        backend(LmEval, **options)


PAIRS = {
    "f1": [(1, 1), (1, 0), (0, 0), (0, 1), (1, 1)],
    "mcc": [(0, 0), (1, 2), (2, 2), (1, 1), (0, 2), (2, 0)],
    "perplexity": [-1.5, -0.25, -3.0],
    "word_perplexity": [(-10.0, 4), (-3.0, 2)],
    "byte_perplexity": [(-10.0, 40), (-3.0, 21)],
    "bits_per_byte": [(-10.0, 40), (-3.0, 21)],
}


@pytest.mark.parametrize("metric", PAIRS)
def test_pieces_become_lm_evals_own_figure(metric):
    metrics = pytest.importorskip("lm_eval.api.registry")
    rows = graded([grades_of(metric, USUAL[metric], value, "") for value in PAIRS[metric]])
    expected = metrics.get_aggregation(USUAL[metric])(PAIRS[metric])
    assert summary_of(metric, metric)(rows) == pytest.approx(float(expected), rel=1e-12)


def test_a_perplexity_of_words_by_hand():
    rows = graded([grades_of("p", "weighted_perplexity", pair, "") for pair in [(-2.0, 1), (-4.0, 2)]])
    assert summary_of("p", "word_perplexity")(rows) == pytest.approx(math.exp(2))


def test_the_metrics_that_are_smaller_where_models_are_better_are_lm_evals():
    registry = pytest.importorskip("lm_eval.api.registry")
    assert {metric for metric in LOWER if registry.is_higher_better(metric) is False} == LOWER
    assert {registry.get_aggregation(name) for name in PIECES} == {
        registry.get_metric_aggregation(metric) for metric in USUAL
    }


def test_documents_without_a_grade_in_a_metric_are_left_out_of_it():
    rows = graded([{"a.f1.gold": 1.0, "a.f1.said": 1.0}, {"b.f1.gold": 1.0, "b.f1.said": 0.0}, {"c.acc": 1.0}])
    assert (summary_of("a.f1", "f1")(rows), summary_of("b.f1", "f1")(rows)) == (1, 0)
    with pytest.raises(ZeroDivisionError):
        summary_of("d.f1", "f1")(rows)
