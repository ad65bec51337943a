"""A trainer that Tunewright does not bring, from a plugin of sixty lines: found, planned, trained, packaged."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import tiny_model
from tunewright.host import Host
from tunewright.pipeline.run import Run
from tunewright.project import Project

# a folder of its own: pytest puts that of each test file on the path, and the plugin would be found by every test
HERE = Path(__file__).parent / "outside"
SPEC = """\
apiVersion: tunewright/v1
name: reward
model: {source: {kind: local, path: base, license: Apache-2.0}, dtype: fp32}
adapter: {kind: lora, r: 4, alpha: 8}
data:
  format: {kind: preference, prompt: "{text}", chosen: "{queue}", rejected: "{other}"}
  train: [{kind: csv, path: train.csv}]
trainer: {kind: reward, args: {num_train_epochs: 6, learning_rate: 1.0e-2}}
seed: 3
"""
ROWS = [("where is my parcel", "delivery", "account"), ("the parcel is late", "delivery", "billing"),
        ("I cannot sign in", "account", "delivery"), ("my password is lost", "account", "billing"),
        ("when does it arrive", "delivery", "account"), ("I was charged twice", "billing", "delivery")]  # fmt: skip


@pytest.fixture
def plugin(monkeypatch):
    """The plugin on the path as an installed one: its folder of metadata names the entry point."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))


@pytest.fixture
def spec(plugin, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    tiny_model(tmp_path / "base", "llama", tied=False)  # tied, the logit of its padding would be zero
    rows = "".join(f"{text},{queue},{other}\n" for text, queue, other in ROWS)
    (tmp_path / "train.csv").write_text(f"text,queue,other\n{rows}")
    (tmp_path / "reward.yaml").write_text(SPEC)
    return tmp_path / "reward.yaml"


def rewards(model, tokenizer, texts):
    """The logit of the end token after each conversation."""
    import torch

    found = []
    for text, answer in texts:
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        ids = tokenizer.apply_chat_template(turns, return_dict=True, return_tensors="pt")["input_ids"]
        ends = (ids[0] == tokenizer.eos_token_id).nonzero()
        with torch.no_grad():
            found.append(float(model(ids[:, : int(ends[-1]) + 1]).logits[0, -1, tokenizer.eos_token_id]))
    return found


def test_the_plugin_is_sixty_lines():
    assert len((HERE / "tunewright_reward.py").read_text().splitlines()) <= 60


def test_it_runs_from_the_spec_to_the_package(spec):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    summary = Project.from_spec(spec).run(spec.parent / "root").summary
    assert summary["status"] == "passed", summary["why"]
    outcome = json.loads((Path(summary["run_dir"]) / "steps/train/outcome.json").read_text())
    assert outcome["losses"][-1][1] < 0.5 * outcome["losses"][0][1]
    package = Path(summary["artifacts"]["package"])
    subprocess.run([sys.executable, "-I", str(package / "verify.py"), str(package)], check=True, capture_output=True)
    lock = (package / "spec.lock.yaml").read_text()
    assert "tunewright-reward" in lock
    base = AutoModelForCausalLM.from_pretrained(spec.parent / "base")
    tokenizer, tuned = AutoTokenizer.from_pretrained(package), PeftModel.from_pretrained(base, package)
    chosen = rewards(tuned, tokenizer, [(text, queue) for text, queue, _ in ROWS])
    rejected = rewards(tuned, tokenizer, [(text, other) for text, _, other in ROWS])
    assert all(better > worse for better, worse in zip(chosen, rejected, strict=True))
    again = Project.from_spec(spec).run(spec.parent / "root").summary
    assert {step["status"] for step in again["steps"]} == {"cached"}


def test_what_it_trains_on_are_the_proven_tokens(spec, monkeypatch):
    from trl.trainer.reward_trainer import DataCollatorForPreference

    seen, passed = set(), DataCollatorForPreference.torch_call

    def spy(self, examples):
        for example in examples:
            seen.update(json.dumps(example[side]) for side in ("chosen_ids", "rejected_ids"))
        return passed(self, examples)

    monkeypatch.setattr(DataCollatorForPreference, "torch_call", spy)
    plan = Project.from_spec(spec).plan()
    upto = [step.name for step in plan.steps].index("train") + 1
    with Run.open(dataclasses.replace(plan, steps=plan.steps[:upto]), spec.parent / "root") as run:
        run.execute()
    lines = (spec.parent / "root" / "latest" / "steps/prepare/rows.jsonl").read_text().splitlines()
    proven = [json.loads(line) for line in lines]
    assert seen == {json.dumps(row["prompt"] + row[side]) for row in proven for side in ("chosen", "rejected")}


def test_rows_of_another_kind_are_refused(spec):
    text = spec.read_text().replace(
        'kind: preference, prompt: "{text}", chosen: "{queue}", rejected: "{other}"',
        'kind: chat, prompt: "{text}", completion: "{queue}"',
    )
    spec.write_text(text)
    (problem,) = Project.from_spec(spec).validate()
    assert problem.code == "wrong-row-kind"
    assert "preference" in problem.suggestion


def test_without_the_plugin_its_kind_is_unknown(spec):
    (problem,) = Project.from_spec(spec, host=Host(blocked=["reward"])).validate()
    assert problem.code == "unknown-kind"


@pytest.mark.slow
def test_it_keeps_its_contract(plugin, tmp_path):
    from tunewright.testing import check_trainer

    backend = Host().backend("trainer", "reward")
    check_trainer(backend, {"args": {"learning_rate": 0.01}}, folder=tmp_path)
