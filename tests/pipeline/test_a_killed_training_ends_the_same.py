"""SIGKILL in a training: the next run goes on from the last checkpoint and ends with the very same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import tiny_model

SPEC = """\
apiVersion: tunewright/v1
name: tiny
model: {source: {kind: local, path: base, license: Apache-2.0}, dtype: fp32}
adapter: {kind: lora, r: 4, alpha: 8, dropout: 0.1}
data: %s
trainer: %s
seed: 3
"""
SPECS = {
    "sft": (
        '{format: {kind: chat, prompt: "{text}", completion: "{queue}"}, train: [{kind: csv, path: train.csv}]}',
        "{kind: sft, epochs: 2, batch_size: 4, learning_rate: 1.0e-2, optimizer: adamw_8bit}",
    ),
    "dpo": (
        '{format: {kind: preference, prompt: "{text}", chosen: "{queue}", rejected: "{other}"}, '
        "train: [{kind: csv, path: train.csv}]}",
        "{kind: dpo, epochs: 2, batch_size: 4, learning_rate: 1.0e-2}",
    ),
    "kto": (
        '{format: {kind: feedback, prompt: "{text}", completion: "{queue}", label: good}, '
        "train: [{kind: csv, path: train.csv}]}",
        "{kind: kto, epochs: 2, batch_size: 4, learning_rate: 1.0e-2}",
    ),
    "cpt": (
        '{format: {kind: text, text: "{text}: {queue}"}, train: [{kind: csv, path: train.csv}]}',
        "{kind: cpt, epochs: 2, batch_size: 2, max_length: 32, learning_rate: 1.0e-2}",
    ),
}
LOOKS = ["data.validation={kind: split, fraction: 0.2}", "trainer.eval_every=1", "trainer.keep=best"]
TEXTS = ["where is my parcel", "the parcel is late", "I cannot sign in", "my password is lost", "when does it arrive"]
ROWS = [(f"{text} {number}", "delivery", "account", number % 2 == 0) for number in range(4) for text in TEXTS]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The base and the data, for specs of either trainer."""
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    tiny_model(tmp_path / "base", "llama")
    rows = "".join(f"{text},{queue},{other},{str(good).lower()}\n" for text, queue, other, good in ROWS)
    (tmp_path / "train.csv").write_text(f"text,queue,other,good\n{rows}")
    return tmp_path


def asked(folder, kind, case, kills, at=None, moments=("after-step", "in-checkpoint"), torn=()):
    """A line for the script: of this trainer's spec with the overrides of a case; the kills are at these moments.

    `torn`: for each kill a file of the newest checkpoint and the damage that it takes before the training goes on.
    """
    spec = folder / f"{kind}.yaml"
    spec.write_text(SPEC % SPECS[kind])
    root = folder / f"roots {kind} {case}"
    return {"spec": str(spec), "root": str(root), "seed": 0, "case": case, "kills": kills, "at": at,
            "moments": moments, "torn": torn}  # fmt: skip


def rounds(*lines):
    """What the script found, a list for each line that it was given: it imports torch once for all."""
    script = Path(__file__).with_name("kill_rounds.py")
    path = os.pathsep.join([str(script.parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(script), *map(json.dumps, lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [[one for one in found if one["line"] == line] for line in range(len(lines))]


def check(found):
    whole, *killed = found
    assert killed
    assert whole["resumed_from"] == []
    for one in killed:
        same = {name: one[name] for name in ("adapter", "order", "steps", "losses")}
        assert same == {name: whole[name] for name in same}, one["round"]
        assert one["killed"], one["round"]
        if one["round"].startswith("killed after-step"):
            assert one["resumed_from"], one["round"]
            assert one["resumed_from"][0] >= 1


def test_in_the_first_epoch_and_in_the_second(folder):
    first, second = asked(folder, "sft", [], 1, at=2), asked(folder, "dpo", ["trainer.accumulation=2"], 1, at=4)
    for found in rounds(first, second):
        check(found)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", SPECS)
def test_at_random_steps_and_within_checkpoints(folder, kind):
    cases = ([], ["trainer.accumulation=2"], ["trainer.epochs=3", "seed=5"])
    for found in rounds(*(asked(folder, kind, case, 4) for case in cases)):
        check(found)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_as_it_looks_at_the_validation_rows_as_the_reference_is_asked_and_where_all_is_trained(folder):
    looks = [asked(folder, kind, LOOKS, 3, moments=["at-a-look", "in-checkpoint"]) for kind in ("sft", "dpo", "kto")]
    reference = [asked(folder, kind, [], 1, moments=["in-the-reference"]) for kind in ("dpo", "kto")]
    full = ["adapter={kind: none}", "trainer.learning_rate=1.0e-3", "trainer.optimizer=adamw_torch"]
    for found in rounds(*looks, *reference, asked(folder, "sft", full, 4)):
        check(found)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_over_a_base_in_four_bits(folder):
    packed = ["quantization={kind: nf4, compute_dtype: fp32}", "trainer.optimizer=paged_adamw_8bit"]
    for found in rounds(*(asked(folder, kind, packed, 4) for kind in ("sft", "dpo"))):
        check(found)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_with_its_newest_checkpoint_torn_it_goes_on_from_the_one_before_and_says_so(folder):
    files = ("trained.safetensors", "best.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth",
             "trainer_state.json", "watch.json", "manifest.json")  # fmt: skip
    torn = list(zip(files, ["missing", "empty", "half", "flipped", "half", "flipped", "missing", "empty"], strict=True))
    (found,) = rounds(asked(folder, "sft", LOOKS, len(torn), at=3, torn=torn))
    check(found)
    for (name, _), one in zip(torn, found[1:], strict=True):
        assert one["torn"] == "step-00000003"
        assert one["resumed_from"] == [2], name
        (why,) = (why for why in one["warnings"] if "is damaged" in why)
        assert why.startswith("checkpoint step-00000003 is damaged (")
        assert name in why
        assert why.endswith("going on from step-00000002")
