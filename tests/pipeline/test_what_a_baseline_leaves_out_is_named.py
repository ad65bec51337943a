"""An evaluation that a baseline cannot answer is named, with the reason, wherever the baseline is told of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunewright.cli.tables import print_plan, print_result
from tunewright.project import Project
from tunewright.store.publish import Store

WHY = "it asks rows of its own, before which no training row stands"


@pytest.fixture
def project(fake_spec, fake_host):
    own = "evals: [{kind: fake}, {kind: fake, name: mine, test: [{kind: fake, path: own.csv}]}]"
    (fake_spec.parent / "own.csv").write_text("text,queue\nwhere is the lorry,delivery\n")
    fake_spec.write_text(fake_spec.read_text().replace("evals: [{kind: fake}]", own))
    return Project(fake_spec, ["baselines=[{few_shot: 2}, {name: other, fake: {}}]"], fake_host)


def test_the_plan_names_it(project, capsys, tmp_path):
    found = project.plan().to_json(Store(tmp_path / "root"))
    assert found["unanswered"] == {"few_shot_2": {"mine": WHY}}
    print_plan(found)
    assert f"few_shot_2 does not answer mine: {WHY}" in " ".join(capsys.readouterr().out.split())


def test_the_run_and_its_report_name_it(project, capsys, tmp_path):
    summary = project.run(tmp_path / "root").summary
    assert summary["unanswered"] == {"few_shot_2": {"mine": WHY}}
    print_result(summary)
    assert f"few_shot_2 does not answer mine: {WHY}" in " ".join(capsys.readouterr().out.split())
    page = re.sub(r"<[^>]*>", "", Path(summary["artifacts"]["report"]).read_text())
    assert page.count(f"It does not answer mine: {WHY}.") == 1


def test_an_engine_that_gives_no_scores_is_named(fake_spec, fake_host, monkeypatch):
    import tunewright_fakes as fakes
    from tunewright.parts import Cap
    from tunewright.parts.base import Need

    need = Need("engine", Cap.SCORES, "cannot-score", "so")
    monkeypatch.setattr(fakes.FakeEvaluator, "needs", lambda self: [need] if self.name == "scored" else [])
    monkeypatch.setattr(fakes.FakeEngine, "offers", lambda self: frozenset())
    evals = "evals=[{kind: fake}, {kind: fake, name: scored}]"
    project = Project(fake_spec, [evals, "baselines=[{name: other, fake: {}}]"], fake_host)
    monkeypatch.setattr("tunewright.resolve.rules._unmet", lambda resolved, backend: iter(()))
    (baseline,) = project.resolve().baselines
    assert baseline.unanswered == {"scored": "engine `fake` cannot serve it"}
