"""The first-party backends on a CUDA device, from spec to package: nothing in them is the CPU's alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import tiny_model
from tunewright.project import Project

SPEC = """\
apiVersion: tunewright/v1
name: tiny
model: {source: {kind: local, path: base, license: Apache-2.0}, dtype: bf16}
quantization: {kind: nf4}
adapter: {kind: lora, r: 4, alpha: 8, targets: attention+mlp}
data:
  format: {kind: chat, system: Answer with the queue., prompt: "{text}", completion: "{queue}"}
  train: [{kind: csv, path: train.csv}]
  test: [{kind: jsonl, path: test.jsonl}]
trainer: {kind: sft, epochs: 8, batch_size: 4, learning_rate: 1.0e-2, optimizer: paged_adamw_8bit}
evals: [{kind: heldout, metrics: [exact_match], max_new_tokens: 8}]
seed: 3
"""
ROWS = [("where is my parcel", "delivery"), ("the parcel is late", "delivery"), ("I cannot sign in", "account")]
ROWS += [("my password is lost", "account"), ("when does it arrive", "delivery"), ("sign me in", "account")]
pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A folder with a tiny base, its rows and the spec."""
    folder = tmp_path_factory.mktemp("client")
    tiny_model(folder / "base", dtype="bfloat16")
    (folder / "train.csv").write_text("text,queue\n" + "".join(f"{text},{queue}\n" for text, queue in ROWS))
    lines = [json.dumps({"text": text, "queue": queue}) for text, queue in ROWS[:4]]
    (folder / "test.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "tiny.yaml").write_text(SPEC)
    return folder


@pytest.fixture(scope="module")
def summary(client):
    return Project.from_spec(client / "tiny.yaml").run(client / "root").summary


def test_the_run_passes_and_what_was_asked_is_what_ran(summary):
    assert summary["status"] == "passed", summary["why"]
    adapter = summary["parity"]["adapter"]
    assert (adapter["agreement"], adapter["diverged"]) == (1.0, 0), "reopened in a fresh process it answers otherwise"
    outcome = json.loads((Path(summary["run_dir"]) / "steps/train/outcome.json").read_text())
    assert not [one for one in outcome["substituted"] if "CPU" in one["why"]]
    losses = [loss for _, loss in outcome["losses"]]
    assert losses[-1] < losses[0] / 2
    manifest = json.loads((Path(summary["run_dir"]) / "steps/train/manifest.json").read_text())
    memory = manifest["notes"]["memory"]
    assert len(memory) == outcome["steps"]
    assert all(0 < device <= manifest["peak_device_bytes"] for *_, device in memory)


def test_plain_peft_gives_the_golden_answers(summary, client):
    package = Path(summary["artifacts"]["package"])
    command = [sys.executable, str(Path(__file__).parents[1] / "plain_peft.py"), str(package), str(client / "base")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    golden = json.loads((package / "prompts.json").read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == [entry["answer_ids"] for entry in golden]


def test_a_killed_training_comes_to_the_same_state(summary, client):
    (rehearsed,) = Project.from_spec(client / "tiny.yaml").rehearse_resume(client / "root").rehearsed
    assert rehearsed.resumed_from == 2
    assert not rehearsed.differ
