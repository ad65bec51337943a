"""`run --rehearse-resume`: what is exact is said to be so, what differs exits 1, what was left out is named."""

from __future__ import annotations

import json
import os
import signal

import pytest

from fake_project import FIRST_PARTY
from tiny import tiny_model
from tunewright.project import Project
from typed import typed

STAGES = """\
stages:
  - {name: task, trainer: {kind: commits, learning_rate: 0.5}}
  - {name: taste, trainer: {kind: commits, learning_rate: 0.25}, adapter: merge}
"""
BLOCKED = [word for name in FIRST_PARTY for word in ("--no-plugins", name)]


@pytest.fixture
def rehearse(fake_spec, monkeypatch, fakes):
    """Types `tunewright run client.yaml --rehearse-resume WORDS…`, on the fakes, with this trainer."""
    monkeypatch.chdir(fake_spec.parent)

    def call(trainer, *words):
        text = fake_spec.read_text().replace("trainer: {kind: fake, learning_rate: 0.5}\n", trainer)
        fake_spec.write_text(text)
        return typed("run", "client.yaml", "--rehearse-resume", *words, *BLOCKED)

    return call


def test_a_training_that_goes_on_exactly_is_said_to_be_equal(rehearse, fake_spec):
    done = rehearse("trainer: {kind: commits}\n")
    assert (done.returncode, done.stderr.count("error")) == (0, 0)
    assert done.stdout == "train: killed, taken up at step 2, compared after step 4: 1 files, all equal\n"
    assert not list((fake_spec.parent / "runs/acme").glob("*/run.json")), "a rehearsal is no run"


def test_a_trainer_that_does_not_compute_alike_twice_exits_1_with_the_files(rehearse):
    done = rehearse("trainer: {kind: commits, drifts: true}\n")
    assert done.returncode == 1
    assert done.stdout == ("train: killed, taken up at step 2, compared after step 4: different: table.json\n")
    told = rehearse("", "--json")
    assert told.returncode == 1
    assert [one["differ"] for one in json.loads(told.stdout)["rehearsed"]] == [["table.json"]]


def test_stages_that_cannot_be_rehearsed_yet_are_named_with_what_to_run(rehearse, fake_spec):
    done = rehearse(STAGES)
    assert done.returncode == 0, done.stderr
    first, left, fix = done.stdout.splitlines()
    assert first.startswith("train-task: killed, taken up at step 2")
    assert left == "train-taste: not rehearsed: it reads what `merge-taste` makes, and that is not there yet"
    assert "`tunewright run client.yaml`" in fix
    found = json.loads(rehearse("", "--json").stdout)
    assert [one["training"] for one in found["rehearsed"]] == ["train-task"]
    (told,) = found["left_out"]
    assert (told["training"], told["why"] in left, told["fix"] in fix) == ("train-taste", True, True)
    assert typed("run", "client.yaml", *BLOCKED).returncode == 0
    done = rehearse("")
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["train-task", "train-taste"]
    assert done.stdout.count("all equal") == 2


@pytest.mark.parametrize("at", ["killed", "taken up"])
def test_a_rehearsal_that_was_killed_has_no_say_in_the_next(fake_spec, fake_host, at):
    root, left = fake_spec.parent / "root", []
    project = Project(fake_spec, ["trainer={kind: commits}"], fake_host)

    def die(event):
        if event.get("what") == f"rehearsing: {at}":
            os.kill(os.getpid(), signal.SIGKILL)

    def look(event):
        if event.get("what") == "rehearsing: in one go":
            left.append([path.name for folder in root.glob("store/.work/*rehearse*") for path in folder.iterdir()])

    child = os.fork()
    if child == 0:
        project.rehearse_resume(root, die)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(root.glob("store/.work/rehearse-train-*/whole/checkpoints/step-00000004")), "nothing stale to meet"
    (rehearsed,) = project.rehearse_resume(root, look).rehearsed
    assert (rehearsed.resumed_from, rehearsed.steps, rehearsed.differ) == (2, 4, ())
    assert left == [[]], "it begins in an empty folder"
    assert not list(root.glob("store/.work/*rehearse*"))


SPEC = """\
apiVersion: tunewright/v1
name: tiny
model: {source: {kind: local, path: base, license: Apache-2.0}, dtype: fp32}
adapter: {kind: lora, r: 4, alpha: 8, dropout: 0.1}
data: {format: {kind: chat, prompt: "{text}", completion: "{queue}"}, train: [{kind: csv, path: train.csv}]}
trainer: {kind: sft, epochs: 2, batch_size: 2, learning_rate: 1.0e-2}
seed: 3
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_real_trainer_comes_to_the_same_state_over_a_kill(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    tiny_model(tmp_path / "base", "llama")
    rows = "".join(f"where is parcel {number},delivery\nI cannot sign in {number},account\n" for number in range(4))
    (tmp_path / "train.csv").write_text(f"text,queue\n{rows}")
    (tmp_path / "tiny.yaml").write_text(SPEC)
    found = Project.from_spec(tmp_path / "tiny.yaml").rehearse_resume(tmp_path / "root")
    (rehearsed,) = found.rehearsed
    assert (rehearsed.training, rehearsed.resumed_from, rehearsed.steps, rehearsed.differ) == ("train", 2, 4, ())
    assert rehearsed.files > 3, "weights, optimizer, random numbers, the record of rows"
    assert found.left_out == ()
