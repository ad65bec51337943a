"""`adapter.parent`: a package's weights are trained on, and the child says whose child it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright.errors import Refused
from tunewright.project import Project
from tunewright.spec.problems import SpecError


@pytest.fixture
def parent(fake_spec, fake_host):
    """The package of a first run."""
    summary = Project(fake_spec, (), fake_host).run(fake_spec.parent / "first").summary
    return Path(summary["artifacts"]["package"])


def run(spec, host, parent, *overrides, beside=""):
    (spec.parent / "more.csv").write_text("text,queue\nthe roof leaks,repair\n")
    text = spec.read_text().replace("adapter: {kind: fake}", f"adapter: {{kind: fake, parent: {parent}{beside}}}")
    child = spec.with_name("child.yaml")
    child.write_text(text.replace("path: train.csv", "path: more.csv"))
    return Project(child, overrides, host).run(spec.parent / "second").summary


def begun(spec):
    """The steps that the last run came to."""
    return [step["name"] for step in json.loads((spec.parent / "second/latest/run.json").read_text())["steps"]]


def test_a_packaged_adapter_is_trained_on_and_recorded(fake_spec, fake_host, parent):
    summary = run(fake_spec, fake_host, parent)
    package = Path(summary["artifacts"]["package"])
    raw = (package / "adapter_model.safetensors").read_bytes()
    table = json.loads(raw[8 + int.from_bytes(raw[:8], "little") :])
    assert {"parcel", "roof"} <= set(table)
    manifest = json.loads((package / "manifest.json").read_text())
    assert (manifest["parent"]["name"], manifest["parent"]["version"]) == ("acme", "0.1.0")
    assert "acme 0.1.0" in (package / "MODEL_CARD.md").read_text()


def test_another_parent_is_another_training(fake_spec, fake_host, parent, tmp_path):
    run(fake_spec, fake_host, parent)
    again = run(fake_spec, fake_host, parent)
    assert {step["status"] for step in again["steps"]} == {"cached"}
    grown = Path(run(fake_spec, fake_host, parent, "trainer.learning_rate=0.25")["artifacts"]["package"])
    other = {step["name"]: step["status"] for step in run(fake_spec, fake_host, grown)["steps"]}
    assert other["train"] == "done"


def test_an_altered_parent_is_refused(fake_spec, fake_host, parent):
    weights = parent / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"refund", b"refunD"))
    with pytest.raises(Refused, match="does not verify"):
        run(fake_spec, fake_host, parent)
    assert begun(fake_spec) == ["fetch"]


def test_a_parent_of_another_base_is_refused(fake_spec, fake_host, parent, monkeypatch):
    from tunewright_fakes import FakeSource, write_safetensors

    fetch = FakeSource.fetch

    def other(self, pin, out):
        fetch(self, pin, out)
        write_safetensors(out / "model.safetensors", "base", b"other weights")

    monkeypatch.setattr(FakeSource, "fetch", other)
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(fake_spec.parent / "another cache"))
    with pytest.raises(Refused, match="is of another base"):
        run(fake_spec, fake_host, parent)
    assert begun(fake_spec) == ["fetch"], "the base is known then: no evaluation of minutes stands before the refusal"
    with pytest.raises(Refused, match="is of another base"):
        run(fake_spec, fake_host, parent)
    assert begun(fake_spec) == ["fetch"], "nor where it was fetched before"


FOUR_BIT = {"load_in_4bit": True, "quant_type": "nf4", "scales": 64}


@pytest.mark.parametrize(
    ("of", "here", "says"),
    [
        (FOUR_BIT, {}, '(load_in_4bit: true, quant_type: "nf4", scales: 64) than this spec\'s (`fake`: none)'),
        ({}, FOUR_BIT, '(none) than this spec\'s (`fake`: load_in_4bit: true, quant_type: "nf4", scales: 64)'),
        (FOUR_BIT, {**FOUR_BIT, "scales": 32}, "(scales: 64) than this spec's (`fake`: scales: 32)"),
        (FOUR_BIT, {**FOUR_BIT, "skip": ["x"]}, '(skip: not set) than this spec\'s (`fake`: skip: ["x"])'),
    ],
)
def test_a_parent_of_another_quantization_is_refused_unless_it_is_meant(
    fake_spec, fake_host, monkeypatch, of, here, says
):
    from tunewright_fakes import FakeQuantizer

    monkeypatch.setattr(FakeQuantizer, "describe", lambda self: of)
    parent = Project(fake_spec, (), fake_host).run(fake_spec.parent / "first").summary["artifacts"]["package"]
    monkeypatch.setattr(FakeQuantizer, "describe", lambda self: here)
    with pytest.raises(Refused) as caught:
        run(fake_spec, fake_host, parent)
    assert says in caught.value.message
    assert "`other_quantization: true`" in caught.value.fix
    assert begun(fake_spec) == ["fetch"]
    assert run(fake_spec, fake_host, parent, beside=", other_quantization: true")["status"] == "passed"
    with pytest.raises(Refused):  # what was done because it was meant is nothing that stands where it is not
        run(fake_spec, fake_host, parent)


def test_another_quantization_of_no_parent_is_said_at_its_line(fake_spec, fake_host):
    text = fake_spec.read_text().replace("adapter: {kind: fake}", "adapter: {kind: fake, other_quantization: true}")
    fake_spec.write_text(text)
    with pytest.raises(SpecError, match="is said of a parent, and there is none") as caught:
        Project(fake_spec, (), fake_host).plan()
    assert (caught.value.problems[0].code, caught.value.problems[0].position.line) == ("argument-unused", 5)


def test_a_parent_that_is_not_there_stands_at_its_line(fake_spec, fake_host):
    with pytest.raises(SpecError, match="there is no folder `gone`") as caught:
        run(fake_spec, fake_host, "gone")
    assert caught.value.problems[0].position.line == 5
