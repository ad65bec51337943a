"""Ctrl-C and SIGTERM: once stops where nothing is lost, twice at once; the next run goes on."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tiny import tiny_model
from tunewright.errors import Interrupted
from tunewright.pipeline.interrupts import Interrupts
from tunewright.project import Project
from typed import begun, typed


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
            if "training" in line and "loss" in line:
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
