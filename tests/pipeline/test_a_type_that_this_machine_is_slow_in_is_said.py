"""A CPU without instructions for bf16 would train for hours: it is said before anything is done."""

from __future__ import annotations

import warnings

import pytest

from tunewright.errors import TunewrightWarning
from tunewright.host import Host
from tunewright.project import Project
from tunewright_transformers import loader

SPEC = """\
apiVersion: tunewright/v1
name: tiny
model: {source: {kind: pypi}, dtype: bf16}
quantization: nf4
adapter: {kind: lora}
data:
  format: {kind: chat, prompt: "{text}", completion: "{queue}"}
  train: [{kind: csv, path: train.csv}]
trainer: {kind: sft}
"""
FP32 = "model.dtype=fp32", "quantization.compute_dtype=fp32"


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.setattr(loader.TransformersLoader, "device", lambda self: "cpu")
    (tmp_path / "train.csv").write_text("text,queue\nhi,a\n")
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path / "spec.yaml"


def said(spec, *overrides):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TunewrightWarning)
        Project.from_spec(spec, overrides=overrides).plan()
    return [str(one.message) for one in caught if issubclass(one.category, TunewrightWarning)]


@pytest.mark.parametrize(
    ("overrides", "fix"),
    [
        ((), "set `model.dtype: fp32` and `quantization.compute_dtype: fp32`"),
        (FP32[:1], "set `quantization.compute_dtype: fp32`"),
        (("model.dtype=fp16", "quantization=none"), "no instructions for fp16: "),
    ],
)
def test_the_warning_names_what_to_set(spec, monkeypatch, overrides, fix):
    monkeypatch.setattr(loader, "multiplies", lambda dtype: False)
    (warning,) = said(spec, *overrides)
    assert fix in warning


def test_nothing_is_said_in_fp32_nor_on_a_machine_that_has_the_instructions(spec, monkeypatch):
    monkeypatch.setattr(loader, "multiplies", lambda dtype: False)
    assert said(spec, *FP32) == []
    monkeypatch.setattr(loader, "multiplies", lambda dtype: True)
    assert said(spec) == []


def test_the_quickstart_runs_in_what_the_machine_is_made_for(monkeypatch, capsys):
    from tunewright.cli import commands

    asked = []
    monkeypatch.setattr(loader, "multiplies", lambda dtype: False)
    monkeypatch.setattr(loader.TransformersLoader, "device", lambda self: "cpu")
    monkeypatch.setattr(commands, "run_spec", lambda spec, overrides, *args: asked.append(overrides) or 0)
    commands.run_quickstart(None, Host(), False)
    assert asked == [list(FP32)]
    assert "runs with model.dtype=fp32" in capsys.readouterr().err
