"""The first-party backends from spec to package, on a random model of a hundred thousand parameters."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import tiny_model
from tunewright.pipeline.run import Run
from tunewright.project import Project
from typed import typed

SPEC = """\
apiVersion: tunewright/v1
name: tiny
model: {source: {kind: local, path: base, license: Apache-2.0}, dtype: %s}
quantization: %s
adapter: {kind: lora, r: 4, alpha: 8, targets: attention+mlp}
data:
  format: {kind: chat, system: Answer with the queue., prompt: "{text}", completion: "{queue}"}
  train: [{kind: csv, path: train.csv}]
  test: [{kind: jsonl, path: test.jsonl}]
trainer: {kind: sft, epochs: 8, batch_size: 4, learning_rate: 1.0e-2, optimizer: paged_adamw_8bit}
evals: [{kind: heldout, metrics: [exact_match, macro_f1], max_new_tokens: 8}]
gates: [{kind: threshold, metric: heldout.exact_match, at_least: 0.0}]
exports: %s
seed: 3
"""
QUANTIZED = {
    "nf4": (
        "fp32",
        "{kind: nf4, compute_dtype: fp32}",
        "[{kind: merged}, {kind: merged, name: first, into: original}, {kind: vllm}]",
    ),
    "none": ("bf16", "{kind: none}", "[{kind: merged, dtype: fp32}]"),
}
ROWS = [("where is my parcel", "delivery"), ("the parcel is late", "delivery"), ("I cannot sign in", "account")]
ROWS += [("my password is lost", "account"), ("when does it arrive", "delivery"), ("sign me in", "account")]


# unquantized in bf16 is the same way again; without a quantizer, in fp32, full tuning goes it below
@pytest.fixture(scope="module", params=["nf4", pytest.param("none", marks=pytest.mark.slow)])
def made(request, tmp_path_factory):
    """(quantizer, folder of the spec, summary) of one whole run."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TUNEWRIGHT_CACHE", str(folder / "cache"))
        summary = Project.from_spec(written(folder, request.param)).run(folder / "root").summary
        yield request.param, folder, summary


def written(folder, kind):
    """The spec, with its base and its data beside it."""
    tiny_model(folder / "base", "llama", dtype="bfloat16")
    (folder / "train.csv").write_text("text,queue\n" + "".join(f"{text},{queue}\n" for text, queue in ROWS))
    lines = [json.dumps({"text": text, "queue": queue}) for text, queue in ROWS[:4]]
    (folder / "test.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "tiny.yaml").write_text(SPEC % QUANTIZED[kind])
    return folder / "tiny.yaml"


def test_the_run_passes_and_the_training_lowers_the_loss(made):
    _, _, summary = made
    assert summary["status"] == "passed", summary["why"]
    lines = (Path(summary["run_dir"]) / "events.jsonl").read_text().splitlines()
    losses = [event["loss"] for event in map(json.loads, lines) if event["event"] == "train"]
    assert len(losses) == 16
    assert losses[-1] < losses[0] / 2


def test_what_the_cpu_substitutes_is_recorded(made):
    _, _, summary = made
    outcome = json.loads((Path(summary["run_dir"]) / "steps/train/outcome.json").read_text())
    (paged,) = [s for s in outcome["substituted"] if s["asked"] == "paged_adamw_8bit"]
    assert paged["got"] == "adamw_8bit"
    assert paged["why"]


def test_the_adapters_are_of_the_weights_type_and_only_they_are_trained(made):
    from safetensors import safe_open

    kind, _, summary = made
    expected = {"nf4": "torch.float32", "none": "torch.bfloat16"}[kind]  # as the spec has `model.dtype`
    with safe_open(Path(summary["artifacts"]["adapter"]) / "adapter_model.safetensors", "pt") as file:
        assert {str(file.get_tensor(name).dtype) for name in file.keys()} == {expected}  # noqa: SIM118
        assert len(list(file.keys())) == 2 * 2 * 7  # A and B, two layers, seven projections
    outcome = json.loads((Path(summary["run_dir"]) / "steps/train/outcome.json").read_text())
    assert 0 < outcome["trainable"] < outcome["total"]


def test_parameters_and_bytes_that_are_told_are_those_of_the_files(made):
    from safetensors import safe_open

    def parameters(file):
        with safe_open(file, "pt") as opened:
            return sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118

    _, folder, summary = made
    saved = Path(summary["run_dir"]) / "steps/train/trained"
    trainable = parameters(saved / "adapter_model.safetensors")
    total = parameters(folder / "base/model.safetensors") + trainable
    size = sum((saved / name).stat().st_size for name in ("adapter_model.safetensors", "adapter_config.json"))
    assert summary["trained"] == {"trainable": trainable, "total": total, "bytes": size}
    assert (trainable, total) == (8_192, 102_720)
    line = f"trained  8,192 of 102,720 parameters (8 %), {size / 1e6:,.1f} MB saved"
    assert line in typed("show", summary["run_dir"]).stdout.splitlines()
    card = (Path(summary["artifacts"]["package"]) / "MODEL_CARD.md").read_text()
    assert "of 8,192 trained parameters (7.98% of 102,720)" in card
    page = Path(summary["artifacts"]["report"]).read_text()
    assert "adapter of 8,192 parameters (" in page
    assert "model’s 102,720)" in page


def test_its_package_is_trained_on_and_named_as_the_parent(made):
    from safetensors.torch import load_file

    _, folder, summary = made
    package = summary["artifacts"]["package"]
    text = (folder / "tiny.yaml").read_text().replace("attention+mlp}", f"attention+mlp, parent: {package}}}")
    (folder / "child.yaml").write_text(text)
    one_step = ["exports=[]", "package.version=0.2.0", "trainer={kind: sft, max_steps: 1, learning_rate: 1.0e-4}"]
    child = Project.from_spec(folder / "child.yaml", overrides=one_step).run(folder / "root").summary
    assert child["status"] == "passed", child["why"]
    began, ended = (load_file(f"{one['artifacts']['adapter']}/adapter_model.safetensors") for one in (summary, child))
    moved = max((began[name] - ended[name]).abs().max().item() for name in began)
    assert 0 < moved < 2e-4  # a step of AdamW moves a weight by about the learning rate
    manifest = json.loads((Path(child["artifacts"]["package"]) / "manifest.json").read_text())
    assert (manifest["parent"]["name"], manifest["parent"]["version"]) == ("tiny", "0.1.0")
    assert "tiny 0.1.0" in (Path(child["artifacts"]["package"]) / "MODEL_CARD.md").read_text()


def test_a_merged_model_is_asked_in_a_fresh_process_and_told_apart(made):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kind, folder, summary = made
    merged, adapter = summary["parity"]["merged"], summary["parity"]["adapter"]
    assert (adapter["agreement"], adapter["diverged"], adapter["first_divergence"]) == (1.0, 0, None)
    assert merged["identity"] != adapter["identity"]
    assert merged["prompts"] == 4 + 4  # golden prompts and test rows
    assert merged["bytes"] > adapter["bytes"]
    if kind == "nf4":  # in fp32, on the weights that were trained on, it is the same function
        assert (merged["agreement"], merged["diverged"], merged["first_divergence"]) == (1.0, 0, None)
        original = summary["parity"]["first"]
        assert original["identity"] != merged["identity"]
        assert (original["diverged"] > 0) == (original["first_divergence"] is not None)
    files = Path(summary["artifacts"]["merged"])
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (files / name).read_bytes() == (folder / "base" / name).read_bytes()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(files), AutoTokenizer.from_pretrained(files)
    assert str(model.dtype) == "torch.float32"
    assert tokenizer.chat_template


def test_what_a_server_puts_on_the_bases_files_is_measured_on_these(made):
    """vLLM packs no base in NF4: what it serves answers as the adapter merged into the original weights."""
    kind, _, summary = made
    if kind == "nf4":
        served, trained, merged = (summary["parity"][name] for name in ("vllm", "adapter", "first"))
        assert served["identity"] == trained["identity"], "the trained tensors"
        assert served["kl"] == pytest.approx(merged["kl"], rel=1e-3)
        assert served["kl"] > 1e-4 > trained["kl"]
        package = Path(summary["artifacts"]["package"])
        forms = json.loads((package / "manifest.json").read_text())["forms"]
        assert {name: form["base"] for name, form in forms.items()} == {
            "adapter": "trained", "merged": "trained", "first": "trained", "vllm": "stored",
        }  # fmt: skip
        card = (package / "MODEL_CARD.md").read_text()
        assert "- vllm was asked on the base without the quantization of the training, as it is served." in card


def test_plain_peft_in_a_fresh_process_gives_the_recorded_answers(made):
    _, folder, summary = made
    package = Path(summary["artifacts"]["package"])
    script = Path(__file__).parents[1] / "plain_peft.py"
    # a random model's answers hang on the last bit; the real one's are asked without it, in tests/realdata
    command = [sys.executable, str(script), str(package), str(folder / "base"), "--same-kernel"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    golden = json.loads((package / "prompts.json").read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == [entry["answer_ids"] for entry in golden]
    assert len(golden) == 4


def test_the_package_verifies_by_itself_and_names_its_base(made):
    _, folder, summary = made
    package = Path(summary["artifacts"]["package"])
    for target in (package, package.with_name(f"{package.name}.zip")):
        command = [sys.executable, "-I", str(package / "verify.py"), str(target), "--base", str(folder / "base")]
        subprocess.run(command, check=True, capture_output=True)
    tiny_model(folder / "other", "llama", dtype="bfloat16", seed=1)
    command = [sys.executable, "-I", str(package / "verify.py"), str(package), "--base", str(folder / "other")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1


def test_a_second_run_redoes_nothing(made):
    _, folder, _ = made
    again = Project.from_spec(folder / "tiny.yaml").run(folder / "root").summary
    assert {step["status"] for step in again["steps"]} == {"cached"}


def test_predict_answers_a_file_of_the_clients_own(made, tmp_path):
    from tunewright.host import Host
    from tunewright.pipeline.predict import answer_file

    _, _, summary = made
    (tmp_path / "new.csv").write_text('id,text\n1,"where, oh where"\n2,sign me in\n')
    answered = answer_file(Path(summary["run_dir"]), tmp_path / "new.csv", Host()).text
    rows = list(csv.DictReader(io.StringIO(answered, newline="")))
    assert [(row["id"], row["text"]) for row in rows] == [("1", "where, oh where"), ("2", "sign me in")]
    assert all(row["answer"] for row in rows)


def test_the_same_training_again_gives_the_same_bytes(made):
    _, folder, summary = made
    plan = Project.from_spec(folder / "tiny.yaml").plan()
    upto = [step.name for step in plan.steps].index("train") + 1  # what is made of it after is not this test's
    with Run.open(dataclasses.replace(plan, steps=plan.steps[:upto]), folder / "again") as run:
        run.execute(lambda event: None)
    first = Path(summary["artifacts"]["adapter"]) / "adapter_model.safetensors"
    second = folder / "again/latest/steps/train/trained/adapter_model.safetensors"
    assert first.read_bytes() == second.resolve().read_bytes()


FULL = [
    "adapter={kind: none}",
    "quantization={kind: none}",
    "model.dtype=fp32",
    "exports=[]",
    "trainer.optimizer=adamw_torch",
    "trainer.learning_rate=2.0e-3",
]


def test_full_fine_tuning_is_packaged_as_a_plain_model(tmp_path, monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    summary = Project.from_spec(written(tmp_path, "none"), overrides=FULL).run(tmp_path / "root").summary
    assert summary["status"] == "passed"
    package = Path(summary["artifacts"]["package"])
    assert not (package / "adapter_config.json").exists()
    subprocess.run([sys.executable, "-I", str(package / "verify.py"), str(package)], check=True, capture_output=True)
    model = AutoModelForCausalLM.from_pretrained(package, dtype=torch.float32)
    for golden in json.loads((package / "prompts.json").read_text()):
        prompt = torch.tensor([golden["prompt_ids"]])
        ids = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=32, do_sample=False
        )
        assert ids[0, prompt.shape[1] :].tolist() == golden["answer_ids"]
