"""Ctrl-C and SIGTERM at every moment of a real training: the exit code is the signal's, and nothing is lost.

The runs of one test are of one project root, each stopped at another moment; the last one is left in peace.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import peft  # noqa: F401  each imported before the forks, where it would be imported again and again
import pytest
from trl import SFTTrainer  # noqa: F401  by name: `trl` itself imports nothing yet

import tunewright_trl.held  # noqa: F401
from tiny import tiny_model
from tunewright.store import disk
from tunewright_transformers import loader
from tunewright_trl.watch import Watch
from typed import typed

SPEC = """\
apiVersion: tunewright/v1
name: tiny
model: {source: {kind: local, path: base, license: Apache-2.0}, dtype: fp32}
adapter: {kind: lora, r: 4, dropout: 0.1}
data:
  format: {kind: chat, prompt: "{text}", completion: "{queue}"}
  train: [{kind: csv, path: train.csv}]
  validation: {kind: split, fraction: 0.25}
trainer: {kind: sft, epochs: 2, batch_size: 3, learning_rate: 1.0e-2, eval_every: 1, checkpoint_every: 2, keep: best}
"""
STEPS = 10
"""15 of 20 rows, 3 at a time, twice."""


def asked_once(signum):
    """What sends this process the signal, the first time that it is called."""
    sent = []

    def ask():
        if not sent:
            sent.append(signum)
            os.kill(os.getpid(), signum)

    return ask


def as_the_model_loads(patch, ask):
    load = loader.load

    def stopped(auto, path, **arguments):
        found = load(auto, path, **arguments)
        if auto == "AutoModelForCausalLM":
            ask()
        return found

    patch.setattr(loader, "load", stopped)


def in_a_step(patch, ask):
    trained_on = Watch.trained_on

    def stopped(self, rows, loss):
        ask()
        trained_on(self, rows, loss)

    patch.setattr(Watch, "trained_on", stopped)


def in_a_look(patch, ask, after=1):
    looked_at = Watch.looked_at

    def stopped(self, rows, loss):
        if len(self.losses) >= after:
            ask()
        looked_at(self, rows, loss)

    patch.setattr(Watch, "looked_at", stopped)


def in_the_last_look(patch, ask):
    in_a_look(patch, ask, STEPS)


def as_a_checkpoint_is_saved(patch, ask):
    def stopped(moment, path):
        if moment == "during:write" and path.parent.name.startswith("checkpoint-"):
            ask()

    patch.setattr(disk, "observers", [stopped])


def twice_as_a_checkpoint_is_saved(patch, ask):
    def stopped(moment, path):
        if moment == "before:rename" and path.name.startswith("step-"):
            ask()
            os.kill(os.getpid(), signal.SIGTERM)

    patch.setattr(disk, "observers", [stopped])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    tiny_model(tmp_path / "base", "llama")
    rows = "".join(f"message {number} of many,queue {number % 2}\n" for number in range(20))
    (tmp_path / "train.csv").write_text(f"text,queue\n{rows}")
    (tmp_path / "tiny.yaml").write_text(SPEC)
    return tmp_path


def newest(folder):
    """The optimizer step of the newest checkpoint; None where there is none."""
    found = (folder / "root/store/.work").glob("train-*/checkpoints/step-*")
    return max((int(place.name.removeprefix("step-")) for place in found), default=None)


def trained(root):
    """What came of the training: its weights, and all that was written down of it but the machine."""
    step = Path(root, "latest/steps/train")
    weights = {path.name: path.read_bytes() for path in (step / "trained").iterdir()}
    return weights, json.loads((step / "outcome.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_exits_with_the_signals_code_and_the_next_run_ends_as_if_nothing_had_been(folder, monkeypatch, signum):
    command = ("run", "tiny.yaml", "--out")
    moments = [  # and the newest checkpoint that is there afterwards
        (as_the_model_loads, None),
        (in_a_step, 1),
        (in_a_look, 3),  # that of step 2; a training stops after a step
        (as_a_checkpoint_is_saved, 5),  # of step 4
        (as_the_model_loads, 5),
    ]
    for stop, step in moments:
        with monkeypatch.context() as patch:
            stop(patch, asked_once(signum))
            done = typed(*command, "root")
        assert done.returncode == 128 + signum, (stop.__name__, done.stderr)
        assert "the same command goes on from there" in done.stderr
        assert newest(folder) == step, stop.__name__
    with monkeypatch.context() as patch:
        twice_as_a_checkpoint_is_saved(patch, asked_once(signum))
        assert typed(*command, "root").returncode == 128 + signal.SIGTERM
    assert newest(folder) == 5, "what was committed, and nothing after it"
    with monkeypatch.context() as patch:
        in_the_last_look(patch, asked_once(signum))
        done = typed(*command, "root")
    assert done.returncode == 128 + signum
    assert "goes on from its checkpoint after step 5" in done.stderr
    again = typed(*command, "root")
    assert again.returncode == 0, again.stderr
    assert "train            reused" in again.stderr, "it was over when it was asked to stop"
    whole = typed(*command, "whole")
    assert whole.returncode == 0, whole.stderr
    assert trained("root") == trained("whole")
