"""Where four bits lose too much: what is tried, in which order, and that it reaches the packing."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

from tiny import backend
from tunewright.parts import Facts
from tunewright.parts.adapter import ModelDir
from tunewright.pipeline.variants import variants_of
from tunewright_gptqmodel import library, packing, trials
from tunewright_gptqmodel.export import AwqExporter, GptqExporter

SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9,
    "num_key_value_heads": 3, "head_dim": 64, "num_hidden_layers": 30,
}  # fmt: skip
ENDS, DOWN = ["model.layers.0", "model.layers.29"], ["down_proj"]


def tried(cls, config=SMOLLM2, **written):
    """The options of each variant beside what the spec writes."""
    found = variants_of(backend(cls, **written), Facts(model_config=config))
    return [
        {name: getattr(one.options, name) for name in one.options.model_fields_set - {"kind", *written}}
        for one in found
    ]


def test_gptq_gets_more_rows_then_smaller_groups_then_whole_layers_then_eight_bits():
    rows, finer = {"calibration_rows": 128}, {"calibration_rows": 128, "group_size": 32}
    assert tried(GptqExporter) == [
        rows, finer, {**finer, "skip": ENDS}, {**finer, "skip": DOWN}, {**rows, "bits": 8},
        {**rows, "bits": 8, "skip": DOWN},
    ]  # fmt: skip


def test_awq_has_no_other_bits():
    rows, finer = {"calibration_rows": 128}, {"calibration_rows": 128, "group_size": 32}
    assert tried(AwqExporter) == [
        rows, finer, {**finer, "skip": ENDS}, {**finer, "skip": DOWN}, {**finer, "skip": [*ENDS, *DOWN]},
    ]  # fmt: skip


def test_they_stand_in_the_order_of_what_they_take_on_the_disk():
    """By bits a weight: 16 for a scale and 4 for a zero in each group, 16 for what is left whole."""
    block = {"q_proj": 576 * 576, "k_proj": 576 * 192, "v_proj": 576 * 192, "o_proj": 576 * 576,
             "gate_proj": 576 * 1536, "up_proj": 576 * 1536, "down_proj": 576 * 1536}  # fmt: skip

    def size(options):
        bits, skip = options.get("bits", 4), options.get("skip", [])
        packed = bits + 20 / options.get("group_size", 64)
        names = [(f"model.layers.{layer}.x.{name}", weights) for layer in range(30) for name, weights in block.items()]
        whole = [any(re.search(packing.pattern(one), name) for one in skip) for name, _ in names]
        return sum(weights * (16 if left else packed) for (_, weights), left in zip(names, whole, strict=True))

    for cls in (GptqExporter, AwqExporter):
        sizes = [size(options) for options in tried(cls)]
        assert sizes == sorted(sizes)


def test_what_the_spec_writes_is_not_varied():
    assert tried(GptqExporter, calibration_rows=16, bits=3) == [
        {"group_size": 32}, {"group_size": 32, "skip": ENDS}, {"group_size": 32, "skip": DOWN}, {"skip": DOWN},
    ]  # fmt: skip
    assert tried(AwqExporter, calibration_rows=16, skip=[]) == [{"group_size": 32}]


def test_nothing_is_tried_that_the_base_does_not_have():
    assert tried(GptqExporter, {**SMOLLM2, "model_type": "unheard-of"}) == [
        {"calibration_rows": 128}, {"calibration_rows": 128, "group_size": 32}, {"calibration_rows": 128, "bits": 8},
    ]  # fmt: skip
    assert tried(GptqExporter, None) == [{"calibration_rows": 128}, {"calibration_rows": 128, "bits": 8}]
    assert tried(AwqExporter, None) == [{"calibration_rows": 128}]
    narrow = {**SMOLLM2, "hidden_size": 48, "num_hidden_layers": 2}  # groups of 16 alone, and no block between the ends
    assert tried(GptqExporter, narrow) == [
        {"calibration_rows": 128}, {"calibration_rows": 128, "skip": DOWN}, {"calibration_rows": 128, "bits": 8},
        {"calibration_rows": 128, "bits": 8, "skip": DOWN},
    ]  # fmt: skip


@pytest.mark.parametrize("family", sorted(trials.GATED))
def test_the_layers_that_are_left_whole_are_there(family):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 64, "vocab_size": 64, "pad_token_id": 0}
    config = AutoConfig.for_model(family, **sizes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    paths = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    left = {name: {path for path in paths if re.search(packing.pattern(name), path)}
            for name in (*trials.ends(config.to_dict()), *trials.down(config.to_dict()))}  # fmt: skip
    assert list(left) == ["model.layers.0", "model.layers.2", "down_proj"]
    assert all(path.startswith("model.layers.2.") for path in left["model.layers.2"])
    assert len(left["model.layers.2"]) == len(left["model.layers.0"]) > 3
    assert len(left["down_proj"]) == 3


@pytest.mark.parametrize("cls", [GptqExporter, AwqExporter])
def test_every_variant_reaches_the_packing_and_is_opened_as_it_was_packed(cls, tmp_path, monkeypatch):
    """The packing itself needs minutes and an extra: here it only notes what it was asked for."""
    asked = []

    def pack(base, how, rows, out):
        asked.append({**how.arguments, "skip": how.skip, "rows": len(rows)})
        stored = {"quantization_config": {"group_size": how.arguments["group_size"]}}
        (out / "config.json").write_text(json.dumps(stored))

    monkeypatch.setattr(library, "find_spec", lambda name: object())
    monkeypatch.setattr(packing, "pack", pack)
    trained = SimpleNamespace(
        calibration=lambda count: [[7]] * count,
        whole=SimpleNamespace(model=lambda base: ModelDir(base, None, "fp32")),
        base=tmp_path,
        dtype="fp32",
        trained_on="original",
        engine="transformers",
        merge=lambda out, dtype, into: (out / "config.json").write_text(json.dumps(SMOLLM2)),
    )
    variants = variants_of(backend(cls), Facts(model_config=SMOLLM2))
    for number, variant in enumerate(variants):
        out = tmp_path / f"{number}"
        out.mkdir()
        form = variant.export(trained, out)
        options, how = variant.options, asked[-1]
        assert how["rows"] == options.calibration_rows == 128
        assert how["skip"] == sorted(options.skip)
        assert how["group_size"] == (options.group_size or 64) == form.quantizer["group_size"]
        assert how["bits"] == getattr(options, "bits", 4) == form.quantizer.get("bits", 4)
    assert len({json.dumps(one, sort_keys=True) for one in asked}) == len(variants)
