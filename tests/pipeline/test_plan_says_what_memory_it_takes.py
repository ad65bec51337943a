"""`plan` tells each step's memory and what to change; a run keeps what it held beside what was foretold."""

from __future__ import annotations

import json

import pytest
from test_the_real_backends_run_on_a_tiny_model import written

from tunewright.cli.commands import show_plan
from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.project import Project
from tunewright.store.publish import Store


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return written(tmp_path_factory.mktemp("memory"), "none")


@pytest.fixture
def plan(spec, capsys):
    """Exit code and JSON of `plan`, or what it prints."""

    def show(fit=None, overrides=(), as_json=True):
        # no type that every machine is quick in
        code = show_plan(spec, ["model.dtype=fp32", *overrides], spec.parent / "root", Host(), as_json, fit)
        said = capsys.readouterr().out
        return code, json.loads(said) if as_json else said

    return show


def test_each_step_that_loads_a_model_is_foretold(plan):
    code, found = plan()
    steps = {step["step"]: step for step in found["forecast"]["steps"]}
    assert code == 0 and list(steps) == ["evaluate-base", "train", "evaluate-tuned"]
    load, train = steps["train"]["phases"]
    assert (load["phase"], train["phase"]) == ("load", "train")
    assert train["low"] < train["bytes"] < train["high"] and train["bytes"] == sum(train["terms"].values())
    assert steps["train"]["basis"] == "tokens guessed from the texts"
    assert found["forecast"]["most_bytes"] == max(p["high"] for step in steps.values() for p in step["phases"])


@pytest.fixture(scope="module")
def pairs(spec):
    folder = spec.parent
    (folder / "pairs.csv").write_text("text,good,bad\n" + "".join(f"row {n},yes {n},no\n" for n in range(8)))
    return [
        "data={format: {kind: preference, prompt: '{text}', chosen: '{good}', rejected: '{bad}'}, "
        f"train: [{{kind: csv, path: {folder}/pairs.csv}}]}}",
        "trainer={kind: dpo, batch_size: 4}",
        "evals=[]",
        "gates=[]",
    ]


def test_a_reference_is_foretold_by_its_own_batches(plan, pairs):
    def phase(*overrides):
        _, found = plan(overrides=[*pairs, *overrides])
        assert [step["step"] for step in found["forecast"]["steps"]] == ["reference", "train"]
        return found["forecast"]["steps"][0]["phases"][1]

    one = phase()
    assert one["phase"] == "reference" and "adapter" not in one["terms"]  # LoRA begins at the bare base
    assert one == phase("trainer.batch_size=1")
    assert phase("trainer.args={precompute_ref_batch_size: 1}")["bytes"] < one["bytes"]
    begun = phase("adapter.init=orthogonal")  # its fresh weights are not nothing
    assert begun["terms"]["adapter"] > 0


def test_the_table_is_80_columns_wide(plan):
    _, said = plan(as_json=False)
    lines = said[said.index("\nmemory ") :].splitlines()
    assert any(line.startswith("train ") and "libraries 0.60" in line for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_a_proposal_validates_and_fits(plan, spec):
    overrides = ["trainer.batch_size=6", "evals=[]", "gates=[]"]
    _, found = plan(overrides=overrides)
    limit = found["forecast"]["most_bytes"] - 100_000
    code, found = plan(f"{limit}", overrides)
    assert code == 0 and found["fit"]["fits"]
    changed = [line for change in found["fit"]["changes"] for line in change["sets"]]
    assert changed == ["trainer.batch_size=3", "trainer.accumulation=2"]
    assert Project(spec, [*overrides, *changed]).validate() == []
    _, after = plan(overrides=[*overrides, *changed])
    assert after["forecast"]["most_bytes"] == found["fit"]["bytes"] <= limit


def test_where_nothing_fits_it_is_said_and_the_exit_code_is_the_machines(plan):
    code, said = plan("100MB", as_json=False)
    assert code == 3
    assert "does not fit into 0.10 GB" in said and "take a smaller base" in said


def test_what_cannot_be_foretold_is_no_fit(plan):
    """Evaluations alone would fit, and the training that nobody can tell of need not."""
    with pytest.raises(BadInput, match="train: adapter `lora` does not tell"):
        plan("100GB", ["adapter.dora=true"])
    _, said = plan(overrides=["adapter.dora=true"], as_json=False)
    assert "no forecast of train: adapter `lora` does not tell with these options" in said


def test_what_already_fits_changes_nothing(plan):
    code, said = plan("100GB", as_json=False)
    assert code == 0 and "fits into 100.0 GB: at most" in said and "--set" not in said


def test_a_run_keeps_both_and_the_next_forecast_goes_by_them(plan, spec, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(spec.parent / "cache"))
    root = spec.parent / "root"
    summary = Project(spec, ["model.dtype=fp32", "trainer.epochs=2", "exports=[]"]).run(root).summary
    train = next(step for step in summary["steps"] if step["name"] == "train")
    assert train["forecast_bytes"] > 500_000_000 and train["peak_rss_bytes"] > 100_000_000
    manifest = next(Store(root).folder.glob("train-*/manifest.json"))
    assert json.loads(manifest.read_text())["forecast_bytes"] == train["forecast_bytes"]
    assert "Forecast</th>" in (root / "latest" / "report.html").read_text()
    _, found = plan(overrides=["trainer.epochs=1"])
    told = next(step for step in found["forecast"]["steps"] if step["step"] == "train")
    assert told["measured"] == 1 and told["basis"] == "tokens as prepared"
