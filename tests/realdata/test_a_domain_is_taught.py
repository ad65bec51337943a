"""Continued pre-training on PubMedQA's abstracts: abstracts that were not learnt surprise the model less."""

from __future__ import annotations

import pytest

from realdata.runs import HERE, marks, run

SPEC = HERE / "pubmedqa-cpt.yaml"
pytestmark = marks("medical-pubmedqa")


@pytest.mark.slow
def test_a_few_abstracts_lower_the_perplexity_of_others(tmp_path):
    summary = run(SPEC, tmp_path, "data.train.0.sample=40", "gates.0.at_most=100")
    assert summary["scores"]["perplexity.perplexity"]["ci95"][1] < 0


@pytest.mark.slow
def test_the_perplexity_of_other_abstracts_falls_by_a_tenth(tmp_path):
    score = run(SPEC, tmp_path)["scores"]["perplexity.perplexity"]
    assert score["n"] == 30
    assert score["tuned"] <= 0.9 * score["base"]
    assert score["ci95"][1] < 0
