"""`baselines:` the base with examples, and models that are served elsewhere, asked what the tuned model is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fake_project import FIRST_PARTY, write_rows
from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.parts.prompt_format import Example
from tunewright.pipeline.shots import preceded
from tunewright.project import Project


@pytest.fixture
def host(fakes):
    return Host(blocked=FIRST_PARTY)


def problems(spec, host, *overrides):
    return [(problem.code, problem.position.line) for problem in Project(spec, overrides, host).validate()]


def graded(summary, step):
    lines = (Path(summary["run_dir"]) / "steps" / step / "fake.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_base_is_asked_with_examples_and_compared_with_the_tuned_model(fake_spec, host, tmp_path):
    summary = Project(fake_spec, ["baselines=[base, {few_shot: 3}]"], host).run(tmp_path / "root").summary
    assert [step["name"] for step in summary["steps"]].count("evaluate-few_shot_3") == 1
    shown, bare = graded(summary, "evaluate-few_shot_3"), graded(summary, "evaluate-base")
    assert [len(one["item"]["prompt"]) for one in shown] == [len(one["item"]["prompt"]) + 6 for one in bare]
    turns = shown[0]["item"]["prompt"]
    assert [turn["role"] for turn in turns] == ["system", *(["user", "assistant"] * 3), "user"]
    assert {turn["content"] for turn in turns if turn["role"] == "assistant"} == {"delivery", "repair", "refund"}
    against = summary["baselines"]["few_shot_3"]["fake.right"]
    assert against["tuned"] == summary["scores"]["fake.right"]["tuned"]
    assert against["base"] == pytest.approx(sum(one["grades"]["right"] for one in shown) / len(shown))


def test_examples_are_no_questions_and_the_seed_draws_them(fake_spec, host, tmp_path):
    (fake_spec.parent / "train.csv").write_text((fake_spec.parent / "test.csv").read_text() + "an odd one,repair\n")
    with pytest.warns(match="equal rows"), pytest.raises(Exception, match="few_shot: 1"):
        Project(fake_spec, ["baselines=[{few_shot: 2}]"], host).run(tmp_path / "root")


def test_a_question_in_large_part_is_no_example(fake_spec, host, tmp_path):
    """A row that a longer question repeats word for word shows what is asked, as the ledger says of it too."""
    part = "the pump of the washing machine that you sent is broken"
    write_rows(fake_spec.parent, "train.csv", [(part, "repair"), ("where is my parcel", "delivery")])
    write_rows(fake_spec.parent, "test.csv", [(f"{part} so that all the water runs over the floor", "repair")])
    with pytest.raises(BadInput, match="1 training rows that are no question"):
        Project(fake_spec, ["baselines=[{few_shot: 2}]"], host).run(tmp_path / "root")


def test_a_gate_may_ask_for_more_than_a_baseline(fake_spec, host):
    gate = "gates=[{kind: fake, metric: baseline.few_shot_2.fake.right, at_least: 0.5}]"
    assert problems(fake_spec, host, "baselines=[{few_shot: 2}]", gate) == []
    assert [code for code, _ in problems(fake_spec, host, "baselines=[base]", gate)] == ["unknown-metric"]


def test_another_model_answers_in_place_of_the_base(fake_spec, host, tmp_path):
    spec = fake_spec.read_text().replace("gates:", "baselines:\n  - {name: other, fake: {}}\ngates:")
    fake_spec.write_text(spec)
    summary = Project(fake_spec, [], host).run(tmp_path / "root").summary
    assert summary["baselines"]["other"]["fake.right"]["n"] == 3
    lock = (Path(summary["run_dir"]) / "spec.lock.yaml").read_text()
    assert "name: other" in lock


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{few_shots: 3}", "unknown-key"),
        ("{fakes: {}}", "unknown-kind"),
        ("{fake: {urll: x}}", "unknown-key"),
        ("{name: lonely}", "bad-value"),
        ("{name: tuned, few_shot: 2}", "duplicate-name"),
        ("few_shot", "bad-value"),
    ],
)
def test_a_mistake_in_a_baseline_is_said_at_its_line(fake_spec, host, line, code):
    fake_spec.write_text(fake_spec.read_text().replace("gates:", f"baselines:\n  - base\n  - {line}\ngates:"))
    found = problems(fake_spec, host)
    where = fake_spec.read_text()[: fake_spec.read_text().index(f"- {line}")].count("\n") + 1
    assert found == [(code, where)]


def test_a_baseline_that_nothing_can_be_asked_of_is_refused(fake_spec, host):
    own = "evals=[{kind: fake, test: [{kind: fake, path: test.csv}]}]"
    assert problems(fake_spec, host, own, "baselines=[{few_shot: 2}]")[0][0] == "baseline-asks-nothing"


def test_examples_of_plain_text_stand_before_it():
    shots = [Example("Q: a\nA: ", "1"), Example("Q: b\nA: ", "2")]
    assert preceded(shots, Example("Q: c\nA: ", "3")) == Example("Q: a\nA: 1\n\nQ: b\nA: 2\n\nQ: c\nA: ", "3")


def test_the_lock_says_what_a_baseline_was(fake_spec, host, tmp_path):
    summary = Project(fake_spec, ["baselines=[{few_shot: 2}]"], host).run(tmp_path / "root").summary
    lock = YAML(typ="safe").load((Path(summary["run_dir"]) / "spec.lock.yaml").read_text())
    assert lock["baselines"] == [{"name": "few_shot_2", "few_shot": 2, "engine": None}]


def test_no_example_is_no_baseline(fake_spec, host):
    assert [code for code, _ in problems(fake_spec, host, "baselines=[{few_shot: 0}]")] == ["out-of-range"]
