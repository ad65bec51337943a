"""What is handed over of a run in stages: its parent, and of every stage its data, its losses and what was kept."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tunewright.parts.trainer import Substitution
from tunewright.project import Project

STAGES = """\
stages:
  - {{name: task, trainer: {{kind: fake, learning_rate: 0.5}}}}
  - name: taste
    trainer: {{kind: fake, learning_rate: 0.25}}
    data: {{train: [{{kind: fake, path: more.csv}}]}}
    adapter: {adapter}
"""
TRAINER = "trainer: {kind: fake, learning_rate: 0.5}\n"
HALVED = Substitution("optimizer", "paged", "plain", "there is no GPU")


@pytest.fixture
def chosen(monkeypatch):
    """The fake trainer keeps an earlier step and substitutes something, in the first stage alone."""
    from tunewright_fakes import FakeTrainer

    outcome = FakeTrainer.outcome

    def told(self, job, steps, stopped=False):
        found = outcome(self, job, steps, stopped)
        if self.options.learning_rate != 0.5:
            return found
        return replace(found, validation=((2, 0.25), (6, 0.75)), best_step=2, substituted=(HALVED,))

    monkeypatch.setattr(FakeTrainer, "outcome", told)


def staged(spec, parent="", adapter="continue"):
    """The fake spec in two stages, beside it; the adapter has a `parent` where one is given."""
    (spec.parent / "more.csv").write_text("text,queue\nthe roof leaks,repair\nmy roof is wet,repair\n")
    text = spec.read_text().replace(TRAINER, STAGES.format(adapter=adapter))
    if parent:
        text = text.replace("adapter: {kind: fake}", f"adapter: {{kind: fake, parent: {parent}}}")
    made = spec.with_name("staged.yaml")
    made.write_text(text)
    return made


def handed_over(spec, host):
    """(manifest, card, report) of a run."""
    summary = Project(spec, (), host).run(spec.parent / "root").summary
    assert summary["status"] == "passed", summary["why"]
    package = Path(summary["artifacts"]["package"])
    card, page = ((package / name).read_text() for name in ("MODEL_CARD.md", "REPORT.html"))
    return json.loads((package / "manifest.json").read_text()), card, page


def seen(page):
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


@pytest.mark.parametrize("adapter", ["continue", "merge"])
def test_the_parent_of_the_first_stage_is_that_of_the_package(fake_spec, fake_host, adapter):
    first = Project(fake_spec, (), fake_host).run(fake_spec.parent / "first").summary
    parent = Path(first["artifacts"]["package"])
    manifest, card, page = handed_over(staged(fake_spec, str(parent), adapter), fake_host)
    assert (manifest["parent"]["name"], manifest["parent"]["version"]) == ("acme", "0.1.0")
    assert "Trained on from acme 0.1.0" in card
    assert "It goes on from acme 0.1.0" in seen(page)


def test_the_manifest_tells_of_every_stage(fake_spec, fake_host, chosen):
    manifest, _, _ = handed_over(staged(fake_spec), fake_host)
    task, taste = manifest["trainings"]
    assert [(one["name"], one["trainer"], one["rows"], one["steps"]) for one in (task, taste)] == [
        ("task", "fake", 6, 6),
        ("taste", "fake", 2, 2),
    ]
    assert [one["sources"][0]["name"] for one in (task, taste)] == ["train.csv", "more.csv"]
    assert (task["best_step"], task["validation"]) == (2, [[2, 0.25], [6, 0.75]])
    assert (task["first_loss"], task["last_loss"], taste["last_loss"]) == (1.0, 1 / 6, 0.5)
    assert [one["what"] for one in task["substituted"]] == ["optimizer"]
    assert (taste["best_step"], taste["validation"], taste["substituted"]) == (None, [], [])
    assert not {"losses", "mask"} & task.keys()
    # no answer of a row, and no memory of this machine: two runs of a spec hand over the same
    documented = {"name", "trainer", "rows", "tokens", "supervised", "sources", "steps", "first_loss", "last_loss"}
    assert task.keys() == documented | {"validation", "validation_rows", "best_step", "substituted"}


def test_the_only_training_of_a_run_is_told_without_a_stage(fake_spec, fake_host):
    manifest, card, _ = handed_over(fake_spec, fake_host)
    assert [(one["name"], one["rows"]) for one in manifest["trainings"]] == [("", 6)]
    assert "- train.csv: 6 rows\n" in card
    assert "- by fake on 6 rows in 6 steps, " in card


def test_the_card_tells_of_every_stage(fake_spec, fake_host, chosen):
    _, card, _ = handed_over(staged(fake_spec), fake_host)
    assert "In 2 stages: 8 rows, " in card
    assert "- task: train.csv: 6 rows\n- taste: more.csv: 2 rows\n" in card
    assert "the weights after step 2 were kept" in card
    assert "  - optimizer: asked paged, got plain; there is no GPU\n- taste, by fake on 2 rows" in card


def test_the_report_tells_of_every_stage(fake_spec, fake_host, chosen):
    _, _, page = handed_over(staged(fake_spec), fake_host)
    read = seen(page)
    assert "trained in 2 stages, by fake on 6 rows, then by fake on 2 rows: " in read
    assert re.search(
        r"task 6 [\d,]+ [\d,]+ 6 1\.000 0\.167 step 2 taste 2 [\d,]+ [\d,]+ 2 1\.000 0\.500 the last", read
    )
    assert (
        "Training data of task Rows Set aside train.csv 6 0 Training data of taste Rows Set aside more.csv 2 0" in read
    )
    assert "Validation of task after step Loss 2 (kept) 0.250 6 0.750" in read
    assert "Validation of taste" not in read
    assert "task: optimizer asked paged got plain there is no GPU" in read
    assert re.findall(r'aria-label="training loss by step, (\w+)"', page) == ["task", "taste"]
    assert re.search(r"What is learnt of a row .* task: train\.csv:2 .* taste: more\.csv:2 ", read)
    for name, rate in (("task", "0.5"), ("taste", "0.25")):
        assert f"Trainer of {name} fake Argument Value Set by rate {rate} spec learning_rate" in read
