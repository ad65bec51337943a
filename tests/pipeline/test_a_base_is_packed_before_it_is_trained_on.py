"""A quantizer that makes its base: a step of its own, by training rows alone, and everything after stands on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright.errors import Refused, TunewrightWarning
from tunewright.project import Project

SPLIT = "  validation: {kind: split, fraction: 0.34}\n  test:"


@pytest.fixture
def packed(fake_spec):
    fake_spec.write_text(fake_spec.read_text().replace("quantization: {kind: fake}", "quantization: {kind: made}"))
    return fake_spec


def run(spec, host, *overrides):
    overrides = ("gates=[]", *overrides)  # with three rows to judge by, a gate says nothing
    summary = Project.from_spec(spec, host=host, overrides=overrides).run(spec.parent / "root").summary
    assert summary["status"] == "passed", summary["why"]
    return summary


def statuses(summary):
    return {step["name"]: step["status"] for step in summary["steps"]}


def output(summary, step):
    return Path(summary["run_dir"]) / "steps" / step


def held(path):
    """The text that a fake's one-tensor file holds."""
    raw = path.read_bytes()
    return json.loads(raw[8 + int.from_bytes(raw[:8], "little") :])


def packed_by(summary):
    return held(output(summary, "quantize") / "model/model.safetensors")["_packed_by"]


def texts(summary, name):
    lines = (output(summary, "prepare") / name).read_text().splitlines()
    return {"".join(map(chr, json.loads(line)["ids"])) for line in lines}


def test_everything_after_the_step_stands_on_the_packed_base(packed, fake_host):
    summary = run(packed, fake_host)
    names = [step["name"] for step in summary["steps"]]
    assert names[:6] == ["fetch", "prepare", "contamination", "quantize", "evaluate-base", "train"]
    plan = Project.from_spec(packed, host=fake_host).plan()
    reads = {step.name: step.inputs.get("model") for step in plan.steps}
    assert reads["quantize"] == "fetch"
    after = ("evaluate-base", "train", "evaluate-tuned", "export-adapter", "parity", "report", "package")
    assert {reads[name] for name in after} == {"quantize"}
    made, fetched = (json.loads((output(summary, name) / "model.json").read_text()) for name in ("quantize", "fetch"))
    assert made["identity"]["identity"] != fetched["identity"]["identity"]
    assert made["identity"]["tokenizer"] == fetched["identity"]["tokenizer"]


def test_it_is_packed_by_rows_that_are_trained_on_and_by_no_other(packed, fake_host):
    packed.write_text(packed.read_text().replace("  test:", SPLIT))
    summary = run(packed, fake_host, "quantization.rows=4")
    learnt, held_out = texts(summary, "rows.jsonl"), texts(summary, "validation.jsonl")
    assert (len(learnt), len(held_out)) == (4, 2)
    assert set(packed_by(summary)) == learnt


def test_which_rows_the_seed_says(packed, fake_host):
    first = packed_by(run(packed, fake_host))
    assert packed_by(run(packed, fake_host, "name=again")) == first
    others = [packed_by(run(packed, fake_host, f"seed={seed}")) for seed in (1, 2, 3)]
    assert any(rows != first for rows in others)
    assert all(len(rows) == 3 for rows in [first, *others])


def test_a_row_that_is_there_twice_is_packed_by_once(packed, fake_host):
    train = packed.parent / "train.csv"
    train.write_text("text,queue\n" + "the lamp is broken,repair\n" * 5 + "my parcel is late,delivery\n")
    with pytest.warns(TunewrightWarning, match="3 rows to calibrate by were asked for, 2 are trained on"):
        assert len(packed_by(run(packed, fake_host))) == 2


def test_the_step_is_done_anew_for_other_rows_and_not_for_another_training(packed, fake_host):
    run(packed, fake_host)
    again = statuses(run(packed, fake_host, "trainer.learning_rate=0.75"))
    assert (again["quantize"], again["evaluate-base"], again["train"]) == ("cached", "cached", "done")
    assert statuses(run(packed, fake_host, "quantization.rows=2"))["quantize"] == "done"
    (packed.parent / "train.csv").write_text((packed.parent / "train.csv").read_text() + "the door is open,repair\n")
    assert statuses(run(packed, fake_host))["quantize"] == "done"


def test_what_was_trained_is_handed_over_with_the_base_that_it_belongs_on(packed, fake_host):
    summary = run(packed, fake_host)
    package = Path(summary["artifacts"]["package"])
    manifest = json.loads((package / "manifest.json").read_text())
    assert manifest["base"]["name"] == "fake-base+made"
    assert manifest["base"]["folder"] == "base"
    made = output(summary, "quantize") / "model/model.safetensors"
    assert (package / "base/model.safetensors").read_bytes() == made.read_bytes()


def test_predict_answers_on_the_packed_base(packed, fake_host):
    run(packed, fake_host)
    project = Project.from_spec(packed, host=fake_host)
    assert list(project.predict([{"text": "my parcel"}], packed.parent / "root")) == ["delivery"]


def already(monkeypatch, method):
    """The fake source's base is packed already."""
    import tunewright_fakes

    def fetch(self, pin, out, before=tunewright_fakes.FakeSource.fetch):
        before(self, pin, out)
        config = {"model_type": "fake", "quantization_config": {"quant_method": method}}
        (out / "config.json").write_text(json.dumps(config))

    monkeypatch.setattr(tunewright_fakes.FakeSource, "fetch", fetch)


def test_a_base_that_is_packed_so_passes_through(packed, fake_host, monkeypatch):
    already(monkeypatch, "made")
    summary = run(packed, fake_host)
    made, fetched = (json.loads((output(summary, name) / "model.json").read_text()) for name in ("quantize", "fetch"))
    assert made == fetched
    assert not (output(summary, "quantize") / "model").exists()
    manifest = json.loads((Path(summary["artifacts"]["package"]) / "manifest.json").read_text())
    assert "folder" not in manifest["base"]  # it is where it came from
    project = Project.from_spec(packed, host=fake_host)
    assert list(project.predict([{"text": "refund"}], packed.parent / "root")) == ["refund"]


def test_a_base_that_is_packed_otherwise_is_refused(packed, fake_host, monkeypatch):
    already(monkeypatch, "other")
    with pytest.raises(Refused, match="the base is packed by other"):
        run(packed, fake_host)


def test_an_export_that_calibrates_reads_training_rows_and_the_others_do_not(fake_spec, fake_host):
    fake_spec.write_text(fake_spec.read_text().replace("  test:", SPLIT) + "exports: [{kind: made, rows: 4}]\n")
    plan = Project.from_spec(fake_spec, host=fake_host).plan()
    inputs = {step.name: step.inputs for step in plan.steps}
    assert inputs["export-made"] == {"model": "fetch", "trained": "train", "rows": "prepare"}
    assert inputs["export-adapter"] == {"model": "fetch", "trained": "train"}
    summary = run(fake_spec, fake_host)
    rows = json.loads((output(summary, "export-made") / "files/packed_by.json").read_text())
    assert set(rows) == texts(summary, "rows.jsonl")
    assert summary["parity"]["made"]["agreement"] == 1.0
