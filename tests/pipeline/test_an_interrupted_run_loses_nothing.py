"""Ctrl-C and SIGTERM: once stops where nothing is lost, twice at once; the next run goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from fake_project import FIRST_PARTY
from tiny import tiny_model
from tunewright.errors import Interrupted
from tunewright.pipeline.interrupts import Interrupts
from tunewright.project import Project
from typed import begun, typed

BLOCKED = [word for name in FIRST_PARTY for word in ("--no-plugins", name)]


def test_outside_of_a_training_the_first_signal_stops_at_once():
    with pytest.raises(Interrupted) as caught, Interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.exit_code == 143


def test_in_a_training_it_is_kept_until_the_trainer_stops():
    said = []
    with Interrupts(said.append) as interrupts:
        with interrupts.held():
            assert not interrupts.stopping()
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.stopping()
        assert "once more stops at once" in said[0]
        with pytest.raises(Interrupted) as caught:
            interrupts.obey()
    assert caught.value.exit_code == 130


def test_a_signal_that_comes_while_a_line_is_written_is_told_when_the_step_is_over():
    said = []

    def told(text):
        said.append(text)
        if len(said) == 1:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    with Interrupts(told) as interrupts, interrupts.held():
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.stopping()
        assert interrupts.stopping()
        assert len(said) == 2


def test_the_second_signal_ends_the_process():
    child = os.fork()
    if child == 0:
        with Interrupts() as interrupts, interrupts.held():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(0)
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 130


def test_handlers_are_put_back():
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts():
        pass
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_run_that_is_stopped_between_steps_says_so_and_keeps_what_is_done(fake_spec, fake_host, tmp_path):
    def stop(event):
        if event["step"] == "train" and event.get("status") == "done":
            os.kill(os.getpid(), signal.SIGTERM)

    project = Project(fake_spec, (), fake_host)
    with pytest.raises(Interrupted):
        project.run(tmp_path / "root", stop)
    run = tmp_path / "root" / "latest"
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "interrupted"
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    again = {step["name"]: step["status"] for step in project.run(tmp_path / "root").summary["steps"]}
    assert (again["prepare"], again["train"], again["package"]) == ("cached", "cached", "done")


def stop_after(step):
    def stop(event):
        if event["event"] == "train" and event["optimizer_step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return stop


def stopped(project, root, *steps):
    """Run, and be told to stop once after each of these optimizer steps: each time a checkpoint is committed there."""
    for step in steps:
        with pytest.raises(Interrupted):
            project.run(root, stop_after(step))
    return sorted((root / "store/.work").glob("train-*/checkpoints/step-*"))


def test_a_checkpoints_number_of_threads_is_its_trainings_alone(fake_spec, fake_host, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    import tunewright_fakes

    project, own, later = Project(fake_spec, (), fake_host), torch.get_num_threads(), []
    stopped(project, tmp_path / "root", 2)
    take_up = tunewright_fakes.FakeTrainer.take_up

    def pinning(self, job):
        torch.set_num_threads(own + 1)
        return take_up(self, job)

    def hear(event):
        if event["event"] == "step" and event["status"] == "started":
            later.append((event["step"], torch.get_num_threads()))

    monkeypatch.setattr(tunewright_fakes.FakeTrainer, "take_up", pinning)
    with pytest.raises(Interrupted):
        project.run(tmp_path / "root", stop_after(4))
    assert torch.get_num_threads() == own
    run = Path(project.run(tmp_path / "root", hear).summary["run_dir"])
    assert ("evaluate-tuned", own) in later
    assert {threads for _, threads in later} == {own}
    told = json.loads((run / "steps/train/outcome.json").read_text())
    assert told["machine"]["threads"] == own + 1, "what the weights were trained on"


def test_a_torn_checkpoint_is_named_to_the_user_and_the_one_before_is_used(fake_spec, fakes, fake_host, monkeypatch):
    monkeypatch.chdir(fake_spec.parent)
    older, newest = stopped(Project(fake_spec, (), fake_host), fake_spec.parent / "root", 2, 4)
    (newest / "table.json").write_bytes((newest / "table.json").read_bytes()[:-1])
    done = typed("run", "client.yaml", "--out", "root", *BLOCKED)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert f"warning: checkpoint {newest.name} is damaged (table.json has " in said
    assert f"going on from {older.name}" in said
    assert "goes on from its checkpoint after step 2" in said
    assert [why for why in warnings(fake_spec.parent / "root") if newest.name in why and "table.json" in why]


def test_where_every_checkpoint_is_torn_the_command_names_them_and_deletes_nothing(
    fake_spec, fakes, fake_host, monkeypatch
):
    monkeypatch.chdir(fake_spec.parent)
    both = stopped(Project(fake_spec, (), fake_host), fake_spec.parent / "root", 2, 4)
    for folder in both:
        (folder / "table.json").unlink()
    done = typed("run", "client.yaml", "--out", "root", *BLOCKED)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "no checkpoint of this training can be used: " in said
    assert all(f"{folder.name} is damaged (table.json is missing)" in said for folder in both)
    assert "to train from the beginning" in said
    assert all(folder.is_dir() for folder in both)


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        (("--set", "trainer.learning_rate=0.25"), "", "trainer.learning_rate (0.5, now 0.25)"),
        (("--set", "data.train.0.limit=5"), "", "inputs.rows.data_source.limit (None, now 5)"),
        ((), "the lamp is dark,repair\n", "inputs.rows.sources.train.0 train.csv ("),
    ],
    ids=["options", "rows", "file"],
)
def test_an_interrupted_training_of_another_spec_is_left_with_the_difference(
    fake_spec, fakes, fake_host, monkeypatch, change, more, said
):
    monkeypatch.chdir(fake_spec.parent)
    (left,) = stopped(Project(fake_spec, (), fake_host), fake_spec.parent / "root", 2)
    rows = Path("train.csv").read_text()
    Path("train.csv").write_text(rows + more)
    done = typed("run", "client.yaml", "--out", "root", *change, *BLOCKED)
    assert done.returncode == 0, done.stderr
    seen = " ".join(done.stderr.split())
    assert f"warning: an interrupted `train` (at step 2) is not taken up: it differs in {said}" in seen
    assert "goes on from its checkpoint" not in seen
    assert [why for why in warnings(fake_spec.parent / "root") if said in why]
    assert "inputs.model" not in seen, "what did not change is not named"
    assert left.is_dir()
    Path("train.csv").write_text(rows)
    again = typed("run", "client.yaml", "--out", "root", *BLOCKED)
    assert "goes on from its checkpoint after step 2" in again.stderr, "what was changed back is taken up"


def test_asked_twice_the_command_ends_at_once_and_the_next_one_goes_on(fake_spec, fakes, fake_host, monkeypatch):
    import tunewright_fakes

    monkeypatch.chdir(fake_spec.parent)
    spec = fake_spec.read_text().replace("trainer: {kind: fake,", "trainer: {kind: commits, checkpoint_every: 2,")
    fake_spec.write_text(spec)
    command = ["run", "client.yaml", *BLOCKED, "--out"]
    learn = tunewright_fakes.FakeCommitting.learn

    def long_third_step(self, job, row):
        if row is job.train[2]:
            time.sleep(30)  # where the second signal is not heard, a checkpoint follows
        learn(self, job, row)

    with monkeypatch.context() as patched:
        patched.setattr(tunewright_fakes.FakeCommitting, "learn", long_third_step)
        with begun(*command, "root") as (process, heard):
            while not list(Path("root/store/.work").glob("train-*/checkpoints/step-00000002")):
                time.sleep(0.01)
            os.kill(process, signal.SIGINT)
            assert any("once more stops at once" in line for line in heard)
            os.kill(process, signal.SIGINT)
            assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
    (left,) = Path("root/store/.work").glob("train-*/checkpoints/*")
    assert left.name == "step-00000002", "what was committed, and nothing after it"
    again = typed(*command, "root")
    assert again.returncode == 0, again.stderr
    assert "goes on from its checkpoint after step 2" in again.stderr
    assert typed(*command, "whole").returncode == 0
    one, other = (Path(root, "latest/steps/train/trained/adapter_model.safetensors") for root in ("root", "whole"))
    assert one.read_bytes() == other.read_bytes()


def warnings(root):
    """What the last run keeps of its warnings."""
    events = [json.loads(line) for line in (root / "latest/events.jsonl").read_text().splitlines()]
    return [event["why"] for event in events if event["event"] == "warning"]


SPEC = """\
apiVersion: tunewright/v1
name: tiny
model: {source: {kind: local, path: base, license: Apache-2.0}, dtype: fp32}
adapter: {kind: lora, r: 4}
data:
  format: {kind: chat, prompt: "{text}", completion: "{queue}"}
  train: [{kind: csv, path: train.csv}]
trainer: {kind: sft, epochs: 60, batch_size: 2, learning_rate: 1.0e-3}
"""


@pytest.mark.parametrize("signum", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_the_command_commits_a_checkpoint_and_the_next_one_goes_on(tmp_path, monkeypatch, signum):
    tiny_model(tmp_path / "base", "llama")
    (tmp_path / "train.csv").write_text("text,queue\n" + "".join(f"message {n},queue {n % 2}\n" for n in range(6)))
    (tmp_path / "tiny.yaml").write_text(SPEC)
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    command = ["run", "tiny.yaml", "--out", "root"]
    with begun(*command) as (process, heard):
        for line in heard:
            if line.startswith("train ") and "loss" in line:
                os.kill(process, signum)
                break
        said = heard.read()
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signum, said
    assert "with a checkpoint" in said
    assert "the same command goes on from there" in said
    (checkpoint,) = (tmp_path / "root/store/.work").glob("train-*/checkpoints/step-*")
    step = int(checkpoint.name.removeprefix("step-"))
    assert step >= 1
    again = typed(*command, "--set", "trainer.checkpoint_minutes=99")
    assert again.returncode == 0, again.stderr
    assert f"goes on from its checkpoint after step {step}" in again.stderr
    assert not list((tmp_path / "root/store/.work").glob("train-*"))
