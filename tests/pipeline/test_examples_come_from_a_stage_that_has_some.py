"""Examples before questions where there are several trainings: whose rows they are, and what is said before a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright.host import Host
from tunewright.project import Project
from tunewright.spec.problems import SpecError

SECOND = """\
stages:
  - {name: first, trainer: {kind: fake, learning_rate: 0.5}}
  - name: second
    trainer: {kind: fake, learning_rate: 0.25}
    data: {format: {kind: fake, answer: other}, train: [{kind: fake, path: more.csv}]}
"""
CHAT = """\
apiVersion: tunewright/v1
name: acme
model: {source: {kind: pypi}}
adapter: {kind: lora}
data:
  format: {kind: chat, prompt: "{text}", completion: "{label}"}
  test: [{kind: csv, path: test.csv}]
stages:
  - name: dpo
    trainer: {kind: dpo}
    data:
      format: {kind: preference, prompt: "{text}", chosen: "{good}", rejected: "{bad}"}
      train: [{kind: csv, path: pairs.csv}]
evals: [{kind: heldout}]
baselines:
  - {few_shot: 2}
"""


@pytest.fixture
def staged(fake_spec):
    (fake_spec.parent / "more.csv").write_text("text,other\nthe roof leaks,roof\nmy roof is wet,roof\n")
    text = fake_spec.read_text().replace("trainer: {kind: fake, learning_rate: 0.5}\n", SECOND)
    fake_spec.write_text(text)
    return fake_spec


def shown(summary, name="fake"):
    """The answers of the examples before the first question."""
    path = Path(summary["run_dir"]) / "steps" / "evaluate-few_shot_2" / f"{name}.jsonl"
    turns = json.loads(path.read_text().splitlines()[0])["item"]["prompt"]
    return [turn["content"] for turn in turns if turn["role"] == "assistant"]


def test_a_last_stage_with_other_columns_leaves_the_examples_to_the_one_before(staged, fake_host, tmp_path):
    summary = Project(staged, ["baselines=[{few_shot: 2}]"], fake_host).run(tmp_path / "root").summary
    assert set(shown(summary)) < {"delivery", "repair", "refund"}


def test_rows_that_the_questions_format_cannot_read_are_shown_by_their_own(staged, fake_host, tmp_path):
    staged.write_text(staged.read_text().replace("  train: [{kind: fake, path: train.csv}]\n", ""))
    text = staged.read_text().replace("  - {name: first, trainer: {kind: fake, learning_rate: 0.5}}\n", "")
    staged.write_text(text)
    summary = Project(staged, ["baselines=[{few_shot: 2}]", "gates=[]"], fake_host).run(tmp_path / "root").summary
    assert shown(summary) == ["roof", "roof"]


def test_an_evaluations_own_format_makes_the_examples_too(fake_spec, fake_host, tmp_path):
    for name in ("train.csv", "test.csv"):
        path = fake_spec.parent / name
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([f"{head},urgency", *(f"{row},high" for row in rows)]) + "\n")
    evals = "evals=[{kind: fake}, {kind: fake, name: urgent, format: {kind: fake, answer: urgency}}]"
    project = Project(fake_spec, [evals, "gates=[]", "baselines=[{few_shot: 2}]"], fake_host)
    assert shown(project.run(tmp_path / "root").summary, "urgent") == ["high", "high"]


def test_where_nothing_that_is_learnt_can_be_an_example_the_spec_is_refused(tmp_path):
    (tmp_path / "test.csv").write_text("text,label\nwhere is my parcel,a\nthe lamp is broken,b\n")
    (tmp_path / "pairs.csv").write_text("text,good,bad\nmy order is late,a,b\nthe pump is loud,b,a\n")
    spec = tmp_path / "spec.yaml"
    spec.write_text(CHAT)
    (found,) = Project(spec, [], Host()).validate()
    assert (found.code, found.position.line) == ("wrong-row-kind", CHAT.splitlines().index("  - {few_shot: 2}") + 1)
    assert "messages" in found.message and "preference" in found.message


def test_more_examples_than_rows_are_refused_at_plan(fake_spec, fake_host):
    fake_spec.write_text(fake_spec.read_text().replace("gates:", "baselines:\n  - few_shot: 500\ngates:"))
    assert Project(fake_spec, [], fake_host).validate() == []
    with pytest.raises(SpecError) as caught:
        Project(fake_spec, [], fake_host).plan()
    (problem,) = caught.value.problems
    assert (problem.code, problem.suggestion) == ("too-few-examples", "set `few_shot: 6` or less")
    assert fake_spec.read_text().splitlines()[problem.position.line - 1] == "  - few_shot: 500"
