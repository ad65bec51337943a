"""The commands as a user types them: what they print, where, and what they exit with."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fake_project import FIRST_PARTY
from tunewright.parts.base import Argument
from tunewright.parts.gate import Score
from typed import typed

BLOCKED = [word for name in FIRST_PARTY for word in ("--no-plugins", name)]


@pytest.fixture
def tunewright(fake_spec, fakes, monkeypatch):
    """Runs `tunewright WORDS…` in the spec's folder with the fakes alone."""
    monkeypatch.chdir(fake_spec.parent)

    def call(*words, blocked=True):
        return typed(*words, *(BLOCKED if blocked else []))

    return call


def edit(spec, old, new):
    text = spec.read_text()
    assert old in text
    spec.write_text(text.replace(old, new))


def test_run_prints_the_table_and_where_things_are_and_a_second_run_says_so(tunewright):
    first = tunewright("run", "client.yaml")
    assert first.returncode == 0, first.stderr
    assert "fake.right" in first.stdout
    assert "report" in first.stdout
    assert "train" in first.stderr
    assert "done in" in first.stderr
    again = tunewright("run", "client.yaml")
    assert "nothing to do: all 11 steps were done before" in again.stdout


def test_data_guess_prints_the_line_to_paste(tunewright, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "Route this.", "input": "my lamp", "output": "repair"}\n')
    done = tunewright("data", "guess", str(rows), blocked=False)
    assert done.stdout.startswith("format: {kind: alpaca")
    rows.write_text('{"a": 1, "b": 2}\n')
    done = tunewright("data", "guess", str(rows), blocked=False)
    assert done.returncode == 2
    assert "columns: a, b" in done.stderr


def test_run_json_is_one_object_on_stdout(tunewright):
    done = tunewright("run", "client.yaml", "--json")
    summary = json.loads(done.stdout)
    shown = {"status", "why", "run_dir", "steps", "scores", "proofs", "unproven", "gates", "parity", "search",
             "trained", "artifacts", "baselines", "unanswered", "contamination", "clean", "answers",
             "readings"}  # fmt: skip
    assert set(summary) == shown
    assert summary["unproven"] == []
    assert set(summary["scores"]["fake.right"]) == {field.name for field in dataclasses.fields(Score)}
    assert summary["scores"]["fake.right"]["p_adjusted"] == summary["scores"]["fake.right"]["p_value"]


def test_a_failed_gate_exits_1(tunewright):
    done = tunewright("run", "client.yaml", "--set", "gates.0.at_least=2")
    assert done.returncode == 1
    assert "gate FAILED" in done.stdout


def test_an_export_is_searched_and_the_table_stands_on_stdout(tunewright):
    asked = ("--set", "exports=[made]", "--set", "gates=[{kind: fake, metric: parity.made.agreement, at_least: 2}]")
    done = tunewright("run", "client.yaml", *asked, "--search-export", "made", "--json")
    assert done.returncode == 1, done.stderr  # no export agrees twice
    summary = json.loads(done.stdout)
    assert [one["written"] for one in summary["search"]["made"]["tried"]] == ["{kind: made}", "{kind: made, rows: 5}"]
    assert "search-made" in done.stderr
    shown = tunewright("show", "runs/acme", blocked=False).stdout
    assert "1: {kind: made, rows: 5}" in shown
    wrong = tunewright("run", "client.yaml", *asked, "--search-export", "mode")
    assert wrong.returncode == 2
    assert "did you mean `made`?" in wrong.stderr


def test_a_failed_training_exits_1_with_its_reason(tunewright):
    done = tunewright("run", "client.yaml", "--set", "trainer.fail=true")
    assert done.returncode == 1
    assert "error: the loss is not a number at rows train.csv:2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("path: test.csv", "path: nothere.csv", "client.yaml:9:29: error[file-missing]"),
        ("learning_rate", "learing_rate", "client.yaml:10:23: error[unknown-key]"),
        ("path: test.csv", "path: test.csv, where: {queue: refnd}", "client.yaml:9:54: error[value-never-occurs]"),
    ],
)
def test_bad_input_exits_2_with_its_place_before_anything_runs(tunewright, fake_spec, old, new, said):
    edit(fake_spec, old, new)
    done = tunewright("run", "client.yaml")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (fake_spec.parent / "runs").exists()


def test_an_empty_data_file_exits_2(tunewright, fake_spec):
    (fake_spec.parent / "train.csv").write_text("text,queue\n")
    done = tunewright("run", "client.yaml")
    assert done.returncode == 2
    assert "client.yaml:8:" in done.stderr


def test_validate_checks_several_specs_and_github_annotates(tunewright, fake_spec):
    bad = fake_spec.with_name("bad.yaml")
    bad.write_text(fake_spec.read_text().replace("seed: 7", "sede: 7"))
    done = tunewright("validate", "client.yaml", "bad.yaml", "--format", "github")
    assert done.returncode == 2
    assert done.stdout.startswith("::error file=bad.yaml,line=13,col=1,endColumn=5,title=unknown-key::")
    assert tunewright("validate", "client.yaml").returncode == 0


def test_validate_says_a_problem_of_a_shared_base_once_and_shows_its_line(tunewright, fake_spec):
    fake_spec.with_name("base.yaml").write_text(fake_spec.read_text().replace("seed: 7", "sede: 7"))
    for name in ("north", "south"):
        fake_spec.with_name(f"{name}.yaml").write_text(f"extends: base.yaml\nname: {name}\n")
    done = tunewright("validate", "north.yaml", "south.yaml")
    assert done.returncode == 2
    assert done.stderr.count("base.yaml:13:1: error[unknown-key]") == 1
    assert "13 | sede: 7" in done.stderr
    assert done.stderr.endswith("2 specs: 1 problem\n")
    (problem,) = json.loads(tunewright("validate", "north.yaml", "--format", "json").stdout)
    assert (problem["file"], problem["line"], problem["code"]) == ("base.yaml", 13, "unknown-key")


def test_validate_takes_what_is_set_and_answers_json_also_where_all_is_fine(tunewright, fake_spec):
    fine = tunewright("validate", "client.yaml", "--format", "json")
    assert (fine.returncode, json.loads(fine.stdout)) == (0, [])
    assert tunewright("validate", "client.yaml", "client.yaml").stdout == "2 specs: fine\n"
    done = tunewright("validate", "client.yaml", "--set", "seed=-1")
    assert (done.returncode, "error[out-of-range]" in done.stderr) == (2, True)


def test_plan_says_what_will_run_and_who_set_each_argument(tunewright):
    done = tunewright("plan", "client.yaml")
    assert "evaluate-tuned" in done.stdout
    assert "will run" in done.stdout
    assert "spec: learning_rate" in done.stdout
    tunewright("run", "client.yaml")
    found = json.loads(tunewright("plan", "client.yaml", "--json").stdout)
    assert all(step["cached"] for step in found["steps"])
    rate = found["arguments"]["trainer/fake"]["rate"]
    assert rate == {"value": 0.5, "set_by": "spec", "field": "learning_rate", "why": ""}


def test_plan_prints_the_reason_of_a_rate_that_nobody_wrote(tunewright, monkeypatch):
    import tunewright_fakes

    chosen = Argument(0.25, "tunewright", "learning_rate", "a quarter of a vote (Fakes, 2025)")
    monkeypatch.setattr(tunewright_fakes.FakeTrainer, "derive", lambda self, facts: {"rate": chosen})
    monkeypatch.setenv("COLUMNS", "200")
    done = tunewright("plan", "client.yaml")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("rate "))
    assert line.split(maxsplit=2)[1:] == ["0.25", "tunewright: learning_rate, a quarter of a vote (Fakes, 2025)"]


def test_data_show_marks_what_is_learnt(tunewright):
    done = tunewright("data", "show", "client.yaml", "--tokens", "--rows", "1")
    assert "train.csv:2" in done.stdout
    assert "⟦d⟧|⟦e⟧|⟦l⟧|⟦i⟧|⟦v⟧|⟦e⟧|⟦r⟧|⟦y⟧" in done.stdout
    rows = tunewright("data", "show", "client.yaml", "--rows", "1")
    assert "user: where is my parcel" in rows.stdout


def test_show_report_package_and_verify(tunewright, fake_spec):
    tunewright("run", "client.yaml")
    assert "fake.right" in tunewright("show", "client.yaml", blocked=False).stdout
    report = Path(tunewright("report", "runs/acme", blocked=False).stdout.strip())
    assert report.read_text().startswith("<!doctype html>") or report.read_text().lower().startswith("<!doctype")
    packed = tunewright("package", "client.yaml", "--out", "dist", blocked=False)
    assert packed.returncode == 0, packed.stderr
    for target in ("dist/acme-0.1.0", "dist/acme-0.1.0.zip"):
        assert tunewright("verify", target, blocked=False).returncode == 0
    adapter = fake_spec.parent / "dist/acme-0.1.0/adapter_model.safetensors"
    data = bytearray(adapter.read_bytes())
    data[-1] ^= 4
    adapter.write_bytes(data)
    refused = tunewright("verify", "dist/acme-0.1.0", blocked=False)
    assert refused.returncode == 1
    assert "adapter_model.safetensors" in refused.stderr


def test_commands_that_need_a_run_say_so(tunewright):
    for words in (["show", "client.yaml"], ["report", "runs"], ["package", "client.yaml"]):
        done = tunewright(*words, blocked=False)
        assert done.returncode == 2
        assert "is not a run" in done.stderr


def test_a_usage_error_exits_2_and_help_0(tunewright):
    assert tunewright("run", blocked=False).returncode == 2
    assert tunewright("nonsense", blocked=False).returncode == 2
    assert tunewright("--help", blocked=False).returncode == 0


def test_plugins_list_and_show(tunewright):
    listed = json.loads(tunewright("plugins", "list", "--json", blocked=False).stdout)
    assert listed["backends"]["trainer/sft"]["distribution"] == "tunewright"
    shown = json.loads(tunewright("plugins", "show", "trainer/sft", "--json", blocked=False).stdout)
    goes = {option["name"]: option["goes_to"] for option in shown["options"]}
    assert goes["epochs"] == "num_train_epochs"
    assert (goes["max_length"], goes["args"]) == ("the core", shown["accepts"])
    wrong = tunewright("plugins", "show", "trainer/stf", blocked=False)
    assert (wrong.returncode, "did you mean `trainer/sft`?" in wrong.stderr) == (2, True)


def test_plugins_show_says_what_a_backend_can_do_and_needs(tunewright):
    said = " ".join(tunewright("plugins", "show", "exporter/vllm", blocked=False).stdout.split())
    assert "needs: an adapter that is loadable by vLLM" in said
    said = " ".join(tunewright("plugins", "show", "adapter/lora", blocked=False).stdout.split())
    assert "needs: a quantizer that is trainable" in said
    for capability in ("able to merge", "loadable by vLLM", "loadable by llama.cpp", "saved apart from its base"):
        assert capability in said.partition("capabilities: ")[2]
    assert "calls: peft:LoraConfig" in said


def test_the_interpreter_runs_the_command_too():
    """As `python -m pytest`: the only way to it where no script is on the path."""
    done = subprocess.run([sys.executable, "-m", "tunewright", "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, "quickstart" in done.stdout) == (0, True), done.stderr
    assert "Usage: python -m tunewright" in done.stdout
