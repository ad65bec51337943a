"""Rules between parts: each has its own code, stands where the user wrote the part that needs, and says what to do."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest

from fake_project import FIRST_PARTY
from tunewright.host import Host, hookimpl
from tunewright.parts import Cap, Need
from tunewright.project import Project

SPEC = """\
apiVersion: tunewright/v1
name: acme
model: {source: {kind: local, path: base}}
quantization: none
adapter:
  kind: lora
  r: 8
data:
  format: {kind: chat, prompt: "{text}", completion: "{queue}"}
  train: [{kind: csv, path: train.csv}]
  test: [{kind: csv, path: test.csv}]
trainer:
  kind: sft
  max_length: 64
evals: [{kind: heldout}]
gates: [{kind: threshold, metric: heldout.exact_match, at_least: 0.5}]
package: {license: Apache-2.0}
"""
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64}


@pytest.fixture
def client(tmp_path):
    """A folder with a spec of first-party parts alone, a base that has only a config, and data."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(CONFIG))
    (base / "tokenizer.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"")
    (tmp_path / "train.csv").write_text("text,queue\nthe lamp is dark,repair\n")
    (tmp_path / "test.csv").write_text("text,queue\nthe pump is loud,repair\n")
    (tmp_path / "client.yaml").write_text(SPEC)
    return tmp_path / "client.yaml"


def problems(spec, *edits, host=None):
    """(line, the words under the caret, code, suggestion) of every problem, after edits of the spec's text."""
    text = spec.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    spec.write_text(text)
    lines = text.splitlines()
    return [
        (p.position.line, lines[p.position.line - 1][p.position.column - 1 : p.position.end_column - 1], p.code,
         p.suggestion)
        for p in Project(spec, host=host).validate()
    ]  # fmt: skip


def with_config(spec, **more):
    (spec.parent / "base" / "config.json").write_text(json.dumps({**CONFIG, **more}))


def test_the_spec_is_fine_as_it_stands(client):
    assert problems(client) == []


def test_a_limit_beyond_what_the_base_takes(client):
    assert problems(client, ("max_length: 64", "max_length: 65")) == [
        (14, "65", "length-beyond-model", "set `max_length: 64` or less")
    ]


def test_a_limit_that_nobody_wrote_is_no_mistake(client):
    assert problems(client, ("  max_length: 64\n", "")) == []


def test_rows_that_the_limit_cannot_hold(client):
    (client.parent / "train.csv").write_text("text,queue\nok,a\n" + "word " * 40 + ",b\n")
    ((line, under, code, fix),) = problems(client, ("max_length: 64", "max_length: 40"))
    assert (line, under, code) == (14, "40", "row-too-long")
    assert "raise `max_length`" in fix


def test_a_long_row_that_is_left_out_is_no_problem(client):
    (client.parent / "train.csv").write_text("text,queue\nok,a\n" + "word " * 40 + ",b\n")
    kept = ("{kind: csv, path: train.csv}", "{kind: csv, path: train.csv, where: {queue: a}}")
    assert problems(client, ("max_length: 64", "max_length: 40"), kept) == []


def test_rows_that_may_just_fit_are_left_to_the_tokenizer(client):
    (client.parent / "train.csv").write_text("text,queue\n" + "word " * 39 + ",b\n")
    assert problems(client, ("max_length: 64", "max_length: 40")) == []


def test_targets_that_the_architecture_lacks(client):
    ((line, under, code, _),) = problems(client, ("  r: 8", "  targets: [q_proj, query_key_value]"))
    assert (line, code) == (7, "unknown-target")
    assert under.startswith("[q_proj")


def test_a_base_that_is_stored_quantized(client):
    with_config(client, quantization_config={"quant_method": "gptq", "bits": 4})
    ((line, under, code, _),) = problems(client)
    assert (line, under, code) == (4, "none", "base-already-quantized")


@pytest.mark.parametrize(
    "adapter",
    ["  dora: true", "  r: 513", "  modules_to_save: [lm_head]", "  args: {lora_bias: true}"],
)
def test_a_serving_target_that_cannot_load_the_adapter(client, adapter):
    found = problems(client, ("  r: 8", adapter), ("license: Apache-2.0", "target: vllm"))
    assert [one[:3] for one in found] == [(17, "vllm", "target-cannot-load")]
    assert "no DoRA" in found[0][3]


def test_a_target_that_can_is_fine_and_exports_nothing_by_itself(client):
    assert problems(client, ("license: Apache-2.0", "target: {kind: vllm, served_name: acme}")) == []
    resolved = Project(client).resolve()
    assert [exporter.kind for exporter in resolved.exporters] == ["adapter"]


NF4 = ("quantization: none", "quantization: nf4")
TARGET = ("license: Apache-2.0", "target: vllm")
ASKED = ("evals: [{kind: heldout}]", "evals: [{kind: heldout, engine: {kind: vllm}}]")


def test_a_target_that_packs_no_base_serves_another_model_than_was_trained_in_four_bits(client):
    fix = "add `exports: [vllm]`, which is measured as it is served; or export `merged` in place of `target`"
    assert problems(client, NF4, TARGET) == [(17, "vllm", "target-cannot-load", fix)]
    assert problems(client, ("package:", "exports: [{kind: vllm, name: acme}]\npackage:")) == []


@pytest.mark.parametrize("packed", ["gptq", "awq"])
def test_a_base_that_is_packed_beforehand_is_served_as_it_was_trained_on(client, packed):
    with_config(client, hidden_size=128, intermediate_size=256, num_attention_heads=2)
    assert problems(client, ("quantization: none", f"quantization: {packed}"), TARGET) == []


def test_what_is_put_on_the_bases_files_vllm_may_be_asked_with_whatever_was_trained_on(client):
    export = "exports: [{kind: vllm, engine: {kind: vllm}}]\npackage:"
    assert problems(client, NF4, ("package:", export)) == []
    found = problems(client, ASKED)
    assert [one[2] for one in found] == ["target-cannot-load"], "an evaluation asks what was trained"
    assert found[0][3] == "leave `engine` out; or export `merged`, which is measured by itself"


@pytest.mark.parametrize("packed", ["none", "gptq", "awq"])
def test_an_engine_that_reads_the_bases_files_may_be_asked_for_what_was_trained_on_them(client, packed):
    with_config(client, hidden_size=128, intermediate_size=256, num_attention_heads=2)
    assert problems(client, ("quantization: none", f"quantization: {packed}"), ASKED) == []


@pytest.mark.parametrize("engine", ["vllm", "llama-cpp"])
@pytest.mark.parametrize("packing", ["nf4", "fp4", "int8"])
def test_an_engine_that_reads_the_bases_files_answers_for_no_base_that_is_packed_as_it_is_loaded(
    client, packing, engine
):
    problems(client, ("quantization: none", f"quantization: {packing}"), ASKED, ("kind: vllm", f"kind: {engine}"))
    (found,) = Project(client).validate()
    assert found.message == (
        f"engine `{engine}` opens the base as it lies in its files, and not in `{packing}`: it would answer for "
        "another model"
    )


@pytest.mark.parametrize("kind", ["endpoint, model", "vllm, served_name"])
@pytest.mark.parametrize("export", ["merged", "vllm, name: served"])
def test_an_export_is_not_certified_by_a_server_that_never_reads_its_files(client, kind, export):
    """Whatever runs there would earn the row under which this run's form is handed over."""
    engine = f"{{kind: {kind}: acme, url: 'http://127.0.0.1:9/v1'}}"
    (found,) = problems(client, ("package:", f"exports: [{{kind: {export}, engine: {engine}}}]\npackage:"))
    assert found[:3] == (17, "'http://127.0.0.1:9/v1'", "target-cannot-load")
    assert found[3].startswith("leave `engine` out, or name one that opens the files")
    assert problems(client, (engine, "vllm")) == [], "a server that is started for it reads them"


@pytest.mark.parametrize(
    ("export", "fix"),
    [
        ("gptq, bits: 3", "write `bits: 4`"),
        ("gptq, bits: 2", "write `bits: 4`"),
        ("gptq, symmetric: false", "leave `symmetric` out"),
        ("gptq, act_order: true", "leave `act_order` out"),
        ("gptq, group_size: 16", "write `group_size: -1`"),
        ("gptq, dtype: fp32", "write `dtype: bf16`"),
        ("awq, dtype: fp32", "write `dtype: bf16`"),
        ("gptq", None),
        ("gptq, bits: 8, dtype: fp16", None),
        ("gptq, act_order: true, group_size: -1", None),
        ("awq", None),
        ("awq, group_size: 16, zero_point: false", None),
    ],
)
def test_packed_weights_that_vllm_does_not_open_are_refused_before_they_are_made(client, export, fix):
    with_config(client, hidden_size=128, intermediate_size=256, num_attention_heads=2)
    asked = f"exports: [{{kind: {export}, engine: {{kind: vllm}}}}]\npackage:"
    found = problems(client, ("package:", asked))
    assert [one[:3] for one in found] == [(17, "vllm", "target-cannot-load")] * (fix is not None)
    assert all(one[3].startswith(fix) for one in found)
    assert problems(client, (", engine: {kind: vllm}", "")) == [], "the loader's own engine opens them all"


def test_packed_weights_in_the_type_of_a_base_in_fp32_are_refused_too(client):
    base = ("{source: {kind: local, path: base}}", "{source: {kind: local, path: base}, dtype: fp32}")
    export = "exports: [{kind: gptq, engine: {kind: vllm}}]\npackage:"
    assert [one[2] for one in problems(client, base, ("package:", export))] == ["target-cannot-load"]
    own = ("engine: {kind: vllm}", "engine: {kind: vllm, python: python}")
    assert problems(client, own) == [], "what another vLLM takes is not known"


def test_a_served_model_is_asked_by_an_evaluation(client):
    engine = "{kind: endpoint, model: acme, base_model: base, url: 'http://127.0.0.1:9/v1'}"
    assert problems(client, ("{kind: heldout}", f"{{kind: heldout, engine: {engine}}}")) == []


BINDING = ["CC-BY-NC-4.0", "CC-BY-SA-4.0", "CC-BY-ND-4.0", "GPL-3.0-only", "AGPL-3.0", "LGPL-3.0", "llama3.1", "Gemma",
           "qwen-research", "tongyi-qianwen", "mrl", "openrail", "creativeml-openrail-m", "openrail++"]  # fmt: skip


@pytest.mark.parametrize("base", BINDING)
def test_a_licence_that_the_base_does_not_allow(client, base):
    source = f"{{kind: local, path: base, license: {base}}}"
    found = problems(client, ("{kind: local, path: base}", source))
    assert found == [(17, "Apache-2.0", "license-clash", f"write `license: {base}`, or leave it out")]


@pytest.mark.parametrize(
    ("base", "given"), [("MIT", "Apache-2.0"), ("Apache-2.0", "CC-BY-NC-4.0"), ("MIT", "mit"), ("llama3.1", "Llama3.1")]
)
def test_a_licence_that_the_base_allows(client, base, given):
    source = f"{{kind: local, path: base, license: {base}}}"
    assert problems(client, ("Apache-2.0", given), ("{kind: local, path: base}", source)) == []


def test_an_argument_that_the_run_depends_on_is_not_the_specs_to_set(client):
    assert problems(client, ("kind: sft", "kind: sft\n  args: {packing: true, bf16: true}")) == [
        (14, "packing", "argument-taken", "remove it"),
        (14, "bf16", "argument-taken", "remove it"),
    ]


@pytest.mark.parametrize("value", [".inf", "{num_cycles: .nan, power: 1}", "{betas: [0.9, [.inf]]}"])
def test_a_number_that_is_none_is_found_however_deep_it_stands(client, value):
    args = f"checkpointing: true\n  args: {{activation_checkpointing_kwargs: {value}}}"
    found = problems(client, ("kind: sft", f"kind: sft\n  {args}"))
    assert [(line, code) for line, _, code, _ in found] == [(15, "bad-value")]


def test_a_long_row_beyond_the_sources_limit_is_no_problem(client):
    (client.parent / "train.csv").write_text("text,queue\nok,a\n" + "word " * 40 + ",b\n")
    kept = ("{kind: csv, path: train.csv}", "{kind: csv, path: train.csv, limit: 1}")
    assert problems(client, ("max_length: 64", "max_length: 40"), kept) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("evals: [{kind: heldout}]", "evals: [{kind: heldout}, {kind: heldout}]", 15),
        ("package:", "exports: [{kind: vllm, name: acme}, {kind: adapter, name: acme}]\npackage:", 17),
    ],
)
def test_two_evaluations_or_two_exports_of_one_name(client, old, new, line):
    ((found, _, code, fix),) = problems(client, (old, new))
    assert (found, code, fix) == (line, "duplicate-name", "give one a `name:`")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("  r: 8", "  targets: [q_proj, '${env:LAYER}']", 7),
        ("kind: sft", "kind: sft\n  args: {lr_scheduler_kwargs: {by: '${env:CYCLES}'}}", 14),
    ],
)
def test_a_reference_is_found_in_lists_and_in_what_a_library_gets(client, old, new, line):
    found = problems(client, (old, new))
    assert (line, "env-not-read", "write the value itself") in [(one[0], one[2], one[3]) for one in found]


def test_what_is_required_and_not_there(client):
    edit = ("name: acme", 'name: acme\nrequires: ["pydantic>=2", "peft>=99", acme-plugin, "not a name!"]')
    found = problems(client, edit)
    assert [(under, code) for _, under, code, _ in found] == [
        ('"peft>=99"', "requirement-unmet"),
        ("acme-plugin", "requirement-unmet"),
        ('"not a name!"', "bad-requirement"),
    ]
    assert found[1][3] == 'install it: pip install "acme-plugin"'


# what no first-party backend needs yet, by backends of a plugin of our own


@pytest.fixture
def strangers(fakes, monkeypatch):
    """A host with the fakes and backends that need something of the other parts."""
    import tunewright_fakes as f

    class KindOnly(f.KindOnly):
        kind: str = "picky"

    class Dpo(f.FakeTrainer):
        kind, consumes = "picky", ("preference",)

    Dpo.Options = type("O", (f.FakeTrainerOptions,), {"__annotations__": {"kind": "str"}, "kind": "picky"})

    class Pairs(f.FakeFormat):
        kind, makes = "pairs", "preference"

    Pairs.Options = type("O", (f.FormatOptions,), {"__annotations__": {"kind": "str"}, "kind": "pairs"})

    class Packed(f.FakeQuantizer):
        kind, Options = "picky", KindOnly

        def offers(self):
            return frozenset({Cap.TRAINABLE})

    class Merged(f.FakeExporter):
        kind = "picky"

        def needs(self):
            yield Need("adapter", Cap.MERGES, "cannot-merge")
            yield Need("quantizer", Cap.TAKES_MERGES, "cannot-merge", "keep the base unquantized, or export `adapter`")

    Merged.Options = type("O", (f.FakeExporterOptions,), {"__annotations__": {"kind": "str"}, "kind": "picky"})

    class Severe(f.FakeEvaluator):
        kind = "picky"
        reads = frozenset({"severity"})

        def columns(self):
            return {self.options.severity: "severity"}

    Severe.Options = type(
        "O",
        (f.FakeEvaluatorOptions,),
        {"__annotations__": {"kind": "str", "severity": "str"}, "kind": "picky", "severity": "severity"},
    )

    module = ModuleType("picky_plugin")
    vars(module).update(Dpo=Dpo, Pairs=Pairs, Packed=Packed, Merged=Merged, Severe=Severe)
    table = {"trainer/picky": "Dpo", "prompt_format/pairs": "Pairs", "quantizer/picky": "Packed",
             "exporter/picky": "Merged", "evaluator/picky": "Severe"}  # fmt: skip
    module.tunewright_backends = hookimpl(lambda: {key: f"picky_plugin:{name}" for key, name in table.items()})
    monkeypatch.setitem(sys.modules, "picky_plugin", module)
    return Host(blocked=FIRST_PARTY, extra={"picky": module})


def test_a_trainer_that_learns_from_other_rows(fake_spec, strangers):
    found = problems(fake_spec, ("trainer: {kind: fake, learning_rate: 0.5}", "trainer: {kind: picky}"), host=strangers)
    assert found == [(10, "picky", "wrong-row-kind", "formats that make preference rows: `pairs`")]


def test_merging_into_a_base_that_takes_no_merges(fake_spec, strangers):
    found = problems(
        fake_spec,
        ("quantization: {kind: fake}", "quantization: picky"),
        ("seed: 7", "exports: [picky]"),
        host=strangers,
    )
    assert found == [(13, "picky", "cannot-merge", "keep the base unquantized, or export `adapter`")]


def test_an_evaluation_that_reads_a_column_the_test_data_lacks(fake_spec, strangers):
    found = problems(fake_spec, ("evals: [{kind: fake}]", "evals: [{kind: picky, severity: queu}]"),
                     ("metric: fake.right", "metric: picky.right"), host=strangers)  # fmt: skip
    assert found == [(11, "queu", "missing-column", "did you mean `queue`?")]
