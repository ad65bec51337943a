"""Several trainings in one spec: each a step of its own, which goes on from the one before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright.project import Project
from tunewright.spec.problems import SpecError

STAGES = """\
stages:
  - {name: first, trainer: {kind: fake, learning_rate: 0.5}}
  - name: second
    trainer: {kind: fake, learning_rate: 0.25}
    data: {format: {kind: fake, answer: other}, train: [{kind: fake, path: more.csv}]}
    adapter: continue
"""


@pytest.fixture
def staged(fake_spec):
    (fake_spec.parent / "more.csv").write_text("text,other\nthe roof leaks,repair\nmy roof is wet,repair\n")
    text = fake_spec.read_text().replace("trainer: {kind: fake, learning_rate: 0.5}\n", STAGES)
    fake_spec.write_text(text)
    return fake_spec


def run(spec, host, *overrides):
    return Project.from_spec(spec, host=host, overrides=overrides).run(spec.parent / "root").summary


def statuses(summary):
    return {step["name"]: step["status"] for step in summary["steps"]}


def table(summary, step):
    raw = (Path(summary["run_dir"]) / "steps" / step / "trained" / "adapter_model.safetensors").read_bytes()
    return json.loads(raw[8 + int.from_bytes(raw[:8], "little") :])


def test_each_stage_is_a_step_with_a_cache_of_its_own(staged, fake_host):
    first = run(staged, fake_host)
    assert first["status"] == "passed", first["why"]
    names = [step["name"] for step in first["steps"]]
    assert names[:4] == ["fetch", "prepare-first", "prepare-second", "contamination"]
    assert names[4:7] == ["evaluate-base", "train-first", "train-second"]
    assert set(statuses(run(staged, fake_host)).values()) == {"cached"}
    again = statuses(run(staged, fake_host, "stages.1.trainer.learning_rate=0.75"))
    assert (again["prepare-second"], again["train-first"], again["train-second"]) == ("cached", "cached", "done")
    both = statuses(run(staged, fake_host, "stages.0.trainer.learning_rate=0.75"))
    assert (both["train-first"], both["train-second"]) == ("done", "done")


def test_continue_trains_what_the_stage_before_trained(staged, fake_host):
    summary = run(staged, fake_host)
    first, second = table(summary, "train-first"), table(summary, "train-second")
    assert "roof" not in first
    assert second["roof"] == {"repair": 0.5}
    assert {word: second[word] for word in ("parcel", "refund")} == {w: first[w] for w in ("parcel", "refund")}


def test_merge_trains_afresh_on_the_base_with_the_stage_before_in_it(staged, fake_host):
    staged.write_text(staged.read_text().replace("adapter: continue", "adapter: merge"))
    summary = run(staged, fake_host)
    assert summary["status"] == "passed", summary["why"]
    assert "merge-second" in statuses(summary)
    assert "parcel" not in table(summary, "train-second")  # a fresh adapter
    record = json.loads((Path(summary["run_dir"]) / "steps/merge-second/model.json").read_text())
    assert record["merged"]["after"] == "first"
    fetched = json.loads((Path(summary["run_dir"]) / "steps/fetch/model.json").read_text())
    assert record["identity"]["identity"] != fetched["identity"]["identity"]
    tuned = summary["scores"]["fake.right"]["tuned"]
    assert tuned > 0.5  # what the first stage taught is in the base


def test_predict_answers_with_the_last_stage(staged, fake_host):
    run(staged, fake_host)
    project = Project.from_spec(staged, host=fake_host)
    assert list(project.predict([{"text": "a wet roof"}], staged.parent / "root")) == ["repair"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: second", "name: first", "duplicate-name"),
        ("name: second", "name: two words", "bad-value"),
        ("path: more.csv", "path: gone.csv", "file-missing"),
        ("answer: other", "answer: queue", "missing-column"),
        ("trainer: {kind: fake, learning_rate: 0.25}", "trainer: {kind: faky}", "unknown-kind"),
        ("trainer: {kind: fake, learning_rate: 0.25}", "trainer: {kind: fake, rate: 1}", "unknown-key"),
        ("adapter: continue", "adapter: stack", "bad-value"),
        ("{name: first, trainer", "{name: first, adapter: merge, trainer", "bad-value"),
        ("stages:", "trainer: {kind: fake}\nstages:", "bad-value"),
    ],
)
def test_a_mistake_in_a_stage_stands_in_its_place(staged, fake_host, old, new, expected):
    text = staged.read_text()
    assert text.count(old) == 1
    staged.write_text(text.replace(old, new))
    with pytest.raises(SpecError) as caught:
        Project.from_spec(staged, host=fake_host).resolve()
    (problem,) = caught.value.problems
    assert problem.code == expected
    assert problem.position.line >= 10


def test_a_stage_may_not_learn_the_rows_that_are_split_off_for_claims(staged, fake_host):
    text = staged.read_text().replace("test: [{kind: fake, path: test.csv}]", "test: {kind: split, fraction: 0.5}")
    staged.write_text(text.replace("path: more.csv", "path: train.csv").replace("answer: other", "answer: queue"))
    assert Project(staged, (), fake_host).validate() == []
    with pytest.raises(SpecError, match="claims would be of learnt rows") as caught:
        Project(staged, (), fake_host).plan()
    (problem,) = caught.value.problems
    assert (problem.code, problem.position.line) == ("test-rows-learnt", 14)


def test_a_stage_may_read_the_same_rows_in_another_way(staged, fake_host):
    text = staged.read_text().replace("test: [{kind: fake, path: test.csv}]", "test: {kind: split, fraction: 0.5}")
    staged.write_text(
        text.replace(", train: [{kind: fake, path: more.csv}]", "").replace("answer: other", "answer: text")
    )
    summary = run(staged, fake_host, "gates=[]")
    learnt = [
        {line["row_id"] for line in map(json.loads, (Path(summary["run_dir"]) / step / "rows.jsonl").open())}
        for step in ("steps/prepare-first", "steps/prepare-second")
    ]
    assert learnt[0] == learnt[1]
    assert len(learnt[0]) == 3  # the other three are asked


def test_no_training_at_all_is_said(staged, fake_host):
    text = staged.read_text()
    staged.write_text(text.replace(STAGES, ""))
    (problem,) = Project.from_spec(staged, host=fake_host).validate()
    assert (problem.code, problem.suggestion) == ("missing-key", "add `trainer:`")


def test_the_lock_names_every_stage_with_its_data(staged, fake_host):
    summary = run(staged, fake_host)
    lock = json.loads((Path(summary["run_dir"]) / "plan.json").read_text())["lock"]
    assert [stage["name"] for stage in lock["stages"]] == ["first", "second"]
    assert lock["stages"][1]["data"]["train"][0]["path"] == "more.csv"
    assert set(lock["locked"]["data"]) == {"data.train.0", "data.test.0", "stages.1.data.train.0"}
