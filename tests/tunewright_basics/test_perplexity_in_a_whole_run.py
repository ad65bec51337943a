"""An evaluation that scores goes through a run like one that asks: rows, pairs, gates, report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_project import FIRST_PARTY
from tunewright.host import Host
from tunewright.project import Project
from tunewright.spec.problems import SpecError

EVALS = "[{kind: fake}, {kind: perplexity}]"
GATE = "[{kind: threshold, metric: perplexity.perplexity, at_most: 2.0}]"


@pytest.fixture
def host(fakes):
    """The fakes, and the evaluations and gates of our own beside them."""
    return Host(blocked=[plugin for plugin in FIRST_PARTY if plugin != "basics"])


def project(fake_spec, host, evals=EVALS, gates=GATE):
    return Project.from_spec(fake_spec, overrides=(f"evals={evals}", f"gates={gates}"), host=host)


def test_base_and_tuned_are_paired_judged_and_reported(fake_spec, host, tmp_path):
    summary = project(fake_spec, host).run(tmp_path / "root").summary
    score = summary["scores"]["perplexity.perplexity"]
    assert score["n"] == 3
    assert score["tuned"] == pytest.approx(1 / 0.9)
    assert score["base"] > 2
    assert score["ci95"][1] < 0
    assert summary["status"] == "passed"
    lines = (Path(summary["run_dir"]) / "steps" / "evaluate-tuned" / "perplexity.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["item"]["reference"] for row in rows] == ["delivery", "repair", "refund"]
    assert [row["grades"]["tokens"] for row in rows] == [9, 7, 7]  # a letter a token, and the terminator
    assert "perplexity" in Path(summary["artifacts"]["report"]).read_text()


def test_progress_says_that_it_scores(fake_spec, host, tmp_path):
    events = []
    project(fake_spec, host).run(tmp_path / "root", on_event=events.append)
    told = {(event["what"], event.get("done"), event.get("of")) for event in events if event["event"] == "progress"}
    assert {("scoring perplexity", 3, 3), ("asking fake", 3, 3)} <= told


def test_an_option_that_would_do_nothing_is_refused_at_its_line(fake_spec, host):
    with pytest.raises(SpecError, match=r"generates nothing: leave `max_new_tokens` out"):
        project(fake_spec, host, "[{kind: perplexity, max_new_tokens: 64}]").plan()
