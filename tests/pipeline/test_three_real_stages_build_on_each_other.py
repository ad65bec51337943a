"""`cpt → sft → dpo` by the first-party backends on a tiny model: one stage goes on, the last is on a merged base."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import tiny_model
from tunewright.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SPEC = """\
apiVersion: tunewright/v1
name: tiny
model: {source: {kind: local, path: base, license: Apache-2.0}, dtype: fp32}
adapter: {kind: lora, r: 4, alpha: 8, targets: attention}
data:
  format: {kind: chat, prompt: "{text}", completion: "{queue}"}
  train: [{kind: csv, path: train.csv}]
  test: [{kind: csv, path: test.csv}]
stages:
  - name: domain
    trainer: {kind: cpt, epochs: 4, batch_size: 2, max_length: 32, learning_rate: 2.0e-2}
    data: {format: {kind: text}, train: [{kind: jsonl, path: manuals.jsonl}]}
  - name: task
    adapter: continue
    trainer: {kind: sft, epochs: 1, batch_size: 4, max_length: 64, learning_rate: 1.0e-4}
  - name: taste
    adapter: merge
    trainer: {kind: dpo, epochs: 3, batch_size: 4, max_length: 64, learning_rate: 1.0e-3}
    data: {format: {kind: preference}, train: [{kind: jsonl, path: pairs.jsonl}]}
evals: [{kind: heldout, max_new_tokens: 4}]
seed: 3
"""
TEXTS = ["where is my parcel", "the parcel is late", "I cannot sign in", "my password is lost"]
QUEUES = ["delivery", "delivery", "account", "account"]


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """One run in three stages."""
    folder = tmp_path_factory.mktemp("stages")
    tiny_model(folder / "base", "llama")
    both = list(zip(TEXTS, QUEUES, strict=True))
    (folder / "train.csv").write_text("text,queue\n" + "".join(f"{text},{queue}\n" for text, queue in both))
    (folder / "test.csv").write_text("text,queue\nis my parcel lost,delivery\nsign me in,account\n")
    manuals = [{"text": f"{text}: that is for {queue}."} for text, queue in both]
    pairs = [{"prompt": text, "chosen": queue, "rejected": QUEUES[place - 2]}
             for place, (text, queue) in enumerate(both)]  # fmt: skip
    for name, rows in (("manuals", manuals), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "tiny.yaml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TUNEWRIGHT_CACHE", str(folder / "cache"))
        found = Project.from_spec(folder / "tiny.yaml").run(folder / "root").summary
    assert found["status"] == "passed", found["why"]
    return found


def step(summary, name):
    return Path(summary["run_dir"]) / "steps" / name


def outcome(summary, stage):
    return json.loads((step(summary, f"train-{stage}") / "outcome.json").read_text())


def adapter(summary, stage):
    """The adapter's tensors as one vector of LoRA's B, which a fresh adapter has at zero."""
    import torch
    from safetensors.torch import load_file

    saved = load_file(step(summary, f"train-{stage}") / "trained/adapter_model.safetensors")
    return torch.cat([saved[name].flatten() for name in sorted(saved) if "lora_B" in name])


def test_each_stage_learns_and_the_next_one_starts_where_it_ended(summary):
    losses = {name: [loss for _, loss in outcome(summary, name)["losses"]] for name in ("domain", "task", "taste")}
    assert losses["domain"][-1] < losses["domain"][0]
    domain, task, taste = (adapter(summary, name) for name in ("domain", "task", "taste"))
    assert 0 < (task - domain).norm() < 0.1 * domain.norm(), "it goes on from the adapter of the stage before"
    assert 0 < taste.norm() < 0.5 * domain.norm(), "it begins at a fresh one"
    assert losses["taste"][0] == pytest.approx(math.log(2), abs=1e-4), "the reference is the model as it came"
    assert losses["taste"][-1] < losses["taste"][0]


def test_the_package_is_of_the_merged_base_and_plain_peft_gives_its_answers(summary):
    package = Path(summary["artifacts"]["package"])
    manifest = json.loads((package / "manifest.json").read_text())
    assert [(one["name"], one["trainer"]) for one in manifest["trainings"]] == [
        ("domain", "cpt"), ("task", "sft"), ("taste", "dpo"),
    ]  # fmt: skip
    merged, fetched = (
        json.loads((step(summary, name) / "model.json").read_text()) for name in ("merge-taste", "fetch")
    )
    assert manifest["base"]["identity"] == merged["identity"]["identity"] != fetched["identity"]["identity"]
    verify = [sys.executable, "-I", str(package / "verify.py"), str(package), "--base", str(package / "base")]
    subprocess.run(verify, check=True, capture_output=True)
    script = Path(__file__).parents[1] / "plain_peft.py"
    command = [sys.executable, str(script), str(package), str(package / "base"), "--same-kernel"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    golden = json.loads((package / "prompts.json").read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == [entry["answer_ids"] for entry in golden]
