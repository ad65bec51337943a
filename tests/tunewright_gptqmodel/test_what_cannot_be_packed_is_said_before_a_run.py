"""What a base, an adapter or an export cannot be under GPTQ and AWQ is an error of the spec, with what to write."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest

from tiny import backend
from tunewright.errors import BadInput, EnvironmentFault
from tunewright.parts import Cap, Facts
from tunewright.parts.adapter import ModelDir
from tunewright.parts.base import BadOption
from tunewright.project import Project
from tunewright_gptqmodel import library, packing, widths
from tunewright_gptqmodel.awq import Awq
from tunewright_gptqmodel.export import AwqExporter, GptqExporter
from tunewright_gptqmodel.gptq import Gptq

SPEC = """\
apiVersion: tunewright/v1
name: acme
model: {source: {kind: local, path: base}}
quantization: gptq
adapter: {kind: lora, r: 8}
data:
  format: {kind: chat, prompt: "{text}", completion: "{queue}"}
  train: [{kind: csv, path: train.csv}]
  test: [{kind: csv, path: test.csv}]
trainer: {kind: sft, max_length: 64}
evals: [{kind: heldout}]
exports: []
"""
SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9,
    "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 8192,
}  # fmt: skip
STORED = {"quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": False, "sym": True,
          "checkpoint_format": "gptq"}  # fmt: skip


@pytest.fixture
def client(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "tokenizer.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"")
    (tmp_path / "train.csv").write_text("text,queue\nthe lamp is dark,repair\n")
    (tmp_path / "test.csv").write_text("text,queue\nthe pump is loud,repair\n")
    return tmp_path / "client.yaml"


def problems(spec, *edits, packed=None):
    """(line, code, message, suggestion) of every problem, after edits of the spec's text."""
    config = {**SMOLLM2, **({"quantization_config": packed} if packed else {})}
    (spec.parent / "base/config.json").write_text(json.dumps(config))
    text = SPEC
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    spec.write_text(text)
    return [(p.position.line, p.code, p.message, p.suggestion) for p in Project(spec).validate()]


@pytest.mark.parametrize("kind", ["gptq", "awq"])
def test_a_base_with_its_whole_weights_is_taken(client, kind):
    assert problems(client, ("quantization: gptq", f"quantization: {kind}")) == []


def test_a_base_that_is_packed_so_is_taken_and_one_that_is_not_is_told_which_kind_it_is(client):
    assert problems(client, packed=STORED) == []
    ((line, code, message, fix),) = problems(client, ("quantization: gptq", "quantization: awq"), packed=STORED)
    assert (line, code) == (4, "base-already-quantized")
    assert "packed, by gptq" in message
    assert fix.startswith("write `quantization: gptq`")
    ((_, code, message, fix),) = problems(client, ("quantization: gptq", "quantization: nf4"), packed=STORED)
    assert (code, message) == ("base-already-quantized", "the base is already quantized, by gptq")
    assert "of the kind `gptq`" in fix


@pytest.mark.parametrize(
    ("written", "found"),
    [("bits: 8", "`bits: 4`"), ("group_size: 128", "`group_size: 64`"), ("act_order: true", "`desc_act: False`"),
     ("symmetric: false", "`sym: True`")],
)  # fmt: skip
def test_an_option_that_the_stored_base_contradicts(client, written, found):
    edit = ("quantization: gptq", f"quantization: {{kind: gptq, {written}}}")
    ((line, code, message, _),) = problems(client, edit, packed=STORED)
    assert (line, code) == (4, "base-already-quantized")
    assert found in message


def test_options_that_agree_with_the_stored_base_are_fine(client):
    edit = ("quantization: gptq", "quantization: {kind: gptq, bits: 4, group_size: 64, symmetric: true}")
    assert problems(client, edit, packed=STORED) == []


def test_what_only_a_packing_reads_does_nothing_over_a_packed_base(client):
    edit = ("quantization: gptq", "quantization: {kind: gptq, calibration_rows: 8, skip: [down_proj]}")
    found = problems(client, edit, packed=STORED)
    assert [code for _, code, _, _ in found] == ["argument-unused", "argument-unused"]


@pytest.mark.parametrize("layout", ["marlin", "bitblas"])
def test_a_layout_that_only_some_cards_read(client, layout):
    ((_, code, message, _),) = problems(client, packed={**STORED, "checkpoint_format": layout})
    assert code == "base-already-quantized"
    assert f"laid out as `{layout}`" in message


def test_awq_of_another_layout_or_of_other_bits():
    stored = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "GEMM"}
    for change, words in (({}, None), ({"version": "gemv"}, "laid out as `gemv`"), ({"bits": 8}, "`bits: 8`")):
        config = {**SMOLLM2, "quantization_config": {**stored, **change}}
        found = [finding.message for finding in backend(Awq).check(Facts(model_config=config))]
        assert (found == []) if words is None else (words in found[0])


def test_groups_that_do_not_divide_the_widths_are_said_with_those_that_do(client):
    for place in ("quantization: gptq", "exports: []"):
        part = "{kind: gptq, group_size: 128}"
        other = ("quantization: gptq", "quantization: none")
        edits = [(place, f"quantization: {part}")] if "quant" in place else [other, (place, f"exports: [{part}]")]
        ((line, code, message, fix),) = problems(client, *edits)
        assert (line, code) == (4 if "quant" in place else 12, "bad-value")
        assert "hidden_size, 576" in message
        assert fix == "write `group_size: 64`"


def test_groups_are_chosen_by_the_widths_and_the_plan_says_so():
    for hidden, expected in ((576, 64), (4096, 128), (96, 32), (48, 16)):
        chosen = backend(Gptq).derive(Facts(model_config={"hidden_size": hidden}))["group_size"]
        assert (chosen.value, chosen.set_by, chosen.field) == (expected, "tunewright", "group_size")
        assert "divides" in chosen.why
    assert backend(Gptq, group_size=32).derive(Facts(model_config=SMOLLM2))["group_size"].set_by == "spec"
    stored = {**SMOLLM2, "quantization_config": {**STORED, "group_size": 32}}
    assert backend(Gptq).derive(Facts(model_config=stored))["group_size"].value == 32


def test_a_width_that_no_group_divides(client):
    assert widths.fitting({"hidden_size": 100}) is None
    with pytest.raises(BadInput, match="hidden_size 100"):
        widths.chosen({"hidden_size": 100}, None)
    (finding,) = backend(Gptq).check(Facts(model_config={"hidden_size": 100}))
    assert "group_size: -1" in finding.suggestion


def test_awq_wants_outputs_by_the_64():
    config = {**SMOLLM2, "num_key_value_heads": 1, "head_dim": 32, "num_attention_heads": 18}
    (finding,) = backend(Awq).check(Facts(model_config=config))
    assert (finding.field, finding.suggestion) == ("kind", "take `gptq`")
    assert "32 outputs" in finding.message
    assert not list(backend(Gptq).check(Facts(model_config=config)))


@pytest.mark.parametrize(
    "adapter",
    ["{kind: lora, dora: true}", "{kind: lora, args: {use_qalora: true}}", "{kind: ia3}",
     "{kind: peft, args: {peft_type: VERA, r: 8}}"],
)  # fmt: skip
def test_an_adapter_that_reads_the_bases_weights(client, adapter):
    found = problems(client, ("adapter: {kind: lora, r: 8}", f"adapter: {adapter}"))
    assert (4, "base-not-trainable") in [problem[:2] for problem in found]


@pytest.mark.parametrize("adapter", ["{kind: lora, init: pissa}", "{kind: lora, init: loftq}", "none"])
def test_what_needs_whole_weights(client, adapter):
    found = problems(client, ("adapter: {kind: lora, r: 8}", f"adapter: {adapter}"))
    assert (5, "base-not-trainable") in [problem[:2] for problem in found]


@pytest.mark.parametrize("lora", ["rslora: true", "init: gaussian", "modules_to_save: [lm_head]", "dropout: 0.1"])
def test_plain_lora_trains_on_top(client, lora):
    assert problems(client, ("{kind: lora, r: 8}", f"{{kind: lora, {lora}}}")) == []


@pytest.mark.parametrize("export", ["merged", "gptq", "awq"])
def test_nothing_is_merged_into_a_packed_base(client, export):
    found = problems(client, ("exports: []", f"exports: [{export}]"))
    assert (12, "cannot-merge") in [problem[:2] for problem in found]


def test_nor_between_stages(client):
    stages = "stages: [{name: a, trainer: {kind: sft}}, {name: b, trainer: {kind: sft}, adapter: merge}]"
    found = problems(client, ("trainer: {kind: sft, max_length: 64}", stages))
    assert [code for _, code, _, _ in found] == ["cannot-merge"]


def test_exports_from_a_base_in_four_bits_or_none(client):
    for quantization in ("none", "nf4"):
        edits = ("quantization: gptq", f"quantization: {quantization}"), ("exports: []", "exports: [gptq, awq]")
        assert problems(client, *edits) == []


@pytest.mark.parametrize("cls", [Gptq, Awq, GptqExporter, AwqExporter])
def test_what_is_not_installed_is_said_with_the_command(cls, monkeypatch):
    there = importlib.util.find_spec

    def find(name):
        return None if name in library.NEEDED else there(name)

    monkeypatch.setattr(library, "find_spec", find)
    assert backend(cls).lacking() == 'it needs gptqmodel and optimum: pip install "tunewright[gptq]"'
    monkeypatch.setattr(library, "find_spec", lambda name: object())
    assert backend(cls).lacking() is None


def test_plan_refuses_before_anything_is_fetched(client, monkeypatch):
    problems(client)
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="quantizer `gptq`: it needs gptqmodel and optimum"):
        Project(client).plan()


def test_it_makes_its_base_and_lets_adapters_learn_on_it():
    for cls in (Gptq, Awq):
        assert backend(cls).offers() == {Cap.TRAINABLE, Cap.MAKES}


def test_a_small_machine_gets_the_workers_that_gptqmodel_wants(monkeypatch):
    for cores, workers in ((1, "2"), (2, "2"), (8, "4"), (64, "12")):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert library.environment()["GPTQMODEL_CPU_WORKERS"] == workers


@pytest.mark.parametrize(
    ("name", "matches"),
    [("down_proj", {"model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"}),
     ("model.layers.1", {"model.layers.1.mlp.down_proj", "model.layers.1.self_attn.q_proj"}),
     ("layers.0.mlp", {"model.layers.0.mlp.down_proj"}), ("proj", set()), ("wn_proj", set()), (".*", set())],
)  # fmt: skip
def test_a_skipped_name_stands_for_whole_modules(name, matches):
    paths = {"model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj", "model.layers.1.self_attn.q_proj"}
    assert {path for path in paths if re.search(packing.pattern(name), path)} == matches


@pytest.mark.parametrize("skip", [["mlp"], ["self_attn"], ["layers.0.mlp"], ["down_proj", "model.layers.1"]])
def test_what_awq_left_whole_is_looked_for_whole_by_whoever_opens_it(tmp_path, skip):
    """By the rule that transformers itself has; a name of `skip` is none of its own."""
    import torch
    from safetensors.torch import save_file
    from transformers.quantizers.quantizers_utils import should_convert_module

    inner = ("mlp.down_proj", "self_attn.q_proj")
    layers = [f"model.layers.{block}.{layer}" for block in (0, 1, 10) for layer in inner]
    whole = {layer for layer in layers if any(re.search(packing.pattern(name), layer) for name in skip)}
    tensors = {f"{layer}.{'weight' if layer in whole else 'qweight'}": torch.zeros(2, 2) for layer in layers}
    tensors |= {"model.embed_tokens.weight": torch.zeros(2, 2), "model.norm.weight": torch.zeros(2)}
    save_file(tensors, tmp_path / "model.safetensors")
    found = packing.read_layers(tmp_path)
    assert found.packed == sorted(set(layers) - whole)
    asked = packing.Asked("awq", {}, skip, "fp32")
    config = packing.config_of({"quantization_config": {"quant_method": "awq"}}, asked, found)["quantization_config"]
    names = config["modules_to_not_convert"]
    assert {layer for layer in [*layers, "lm_head"] if not should_convert_module(layer, names)} == {*whole, "lm_head"}
    asked = packing.Asked("gptq", {}, skip, "fp32")
    config = packing.config_of({"quantization_config": {"quant_method": "gptq"}}, asked, found)["quantization_config"]
    assert config["modules_in_block_to_quantize"] == [found.packed]


def test_a_skip_of_nothing_is_refused_before_anything_is_packed(tmp_path, monkeypatch):
    from torch.nn import Linear, ModuleDict

    monkeypatch.setattr(library, "find_spec", lambda name: object())
    monkeypatch.setattr(packing, "pack", lambda *given: given)
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2))
    model = ModelDir(tmp_path, ModuleDict({"down_proj": Linear(2, 2)}), "fp32")
    backend(Gptq, skip=["down_proj"]).make(model, lambda count: [], tmp_path)
    with pytest.raises(BadOption) as error:
        backend(Gptq, skip=["no_such"]).make(model, lambda count: [], tmp_path)
    assert (error.value.finding.code, error.value.finding.field) == ("unknown-module", "skip")


def test_so_many_rows_are_asked_for_as_the_options_say(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(library, "find_spec", lambda name: object())
    monkeypatch.setattr(packing, "pack", lambda base, how, rows, out: asked.append((how, rows)))
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2))
    for cls in (Gptq, Awq):
        made = backend(cls, calibration_rows=5, skip=["v_proj"])
        made.make(ModelDir(tmp_path, None, "fp32"), lambda count: [[7]] * count, tmp_path)
    (gptq, rows), (awq, _) = asked
    assert rows == [[7]] * 5
    assert gptq.arguments == {"bits": 4, "desc_act": False, "group_size": 64, "sym": True}
    assert awq.arguments == {"bits": 4, "group_size": 64, "zero_point": True}
    assert (gptq.skip, gptq.dtype) == (["v_proj"], "fp32")
