"""A model as GGUF answers as it did: transformers' own reader, which undoes llama.cpp's order, finds its logits."""

from __future__ import annotations

import json
import shutil

import gguf
import numpy as np
import pytest
import torch
from llama_work import export, loader, logits, read, tensors, trained, value
from transformers import AutoModelForCausalLM

from tiny import EOS, FAMILIES, TEMPLATE, VOCABULARY, tiny_model
from tunewright_llamacpp import model
from tunewright_llamacpp.header import read_header


@pytest.fixture(scope="module")
def written(tmp_path_factory, tiny_folder):
    """The tiny Llama as a GGUF in fp32."""
    base = tiny_folder()
    out = tmp_path_factory.mktemp("written") / "model.gguf"
    model.write_model(base, loader().tokenizer(base), out, "f32", "org/base")
    return out


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", [*FAMILIES, "qwen3"])
def test_every_family_gives_the_same_logits(tiny_folder, tmp_path, family, tied):
    base = tiny_folder(family, tied=tied)
    model.write_model(base, loader().tokenizer(base), tmp_path / "model.gguf", "f32", "org/base")
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    assert torch.equal(logits(read(tmp_path)), logits(plain))
    assert ("output.weight" in read_header(tmp_path / "model.gguf").tensors) is not tied


def test_llama_3s_rotation_goes_along(tmp_path):
    base = tiny_model(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    asked = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
             "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
    (base / "config.json").write_text(json.dumps({**config, "rope_parameters": asked}))
    model.write_model(base, loader().tokenizer(base), tmp_path / "model.gguf", "f32", "org/base")
    factors = tensors(tmp_path / "model.gguf")["rope_freqs.weight"]
    rotary = AutoModelForCausalLM.from_pretrained(base).model.rotary_emb.inv_freq.numpy()
    plain = 1 / 10000.0 ** (np.arange(0, 16, 2) / 16)
    assert np.allclose(plain / factors, rotary)
    assert factors[0] == 1
    assert factors[-1] == 8


def test_a_window_bounds_the_context_since_llama_cpp_has_none(tiny_folder, tmp_path):
    base = tiny_folder("mistral", window=64)
    model.write_model(base, loader().tokenizer(base), tmp_path / "model.gguf", "f32", "org/base")
    assert model.context(tmp_path / "model.gguf") == 64


def test_a_trained_model_is_exported_merged(tiny_folder, tmp_path):
    what = trained(tiny_folder(), tmp_path / "saved")
    form = export(what, tmp_path / "out", kind="gguf", type="f32")
    (tmp_path / "merged").mkdir()
    what.merge(tmp_path / "merged", "fp32", "original")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    base = AutoModelForCausalLM.from_pretrained(what.base, dtype=torch.float32).eval()
    found = logits(read(tmp_path / "out"))
    assert torch.equal(found, logits(merged))
    assert not torch.allclose(found, logits(base), atol=1e-2)
    assert (form.engine, form.attach, form.dtype) == ("llama-cpp", False, "fp32")
    assert form.options == {"cache_type": "f32"}, "opened again, it is computed without rounding"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.gguf"], "nothing is left of the merging"


def test_the_licence_lies_beside_it(tmp_path):
    base = tiny_model(tmp_path / "base")
    (base / "LICENSE").write_text("Apache-2.0\n")
    export(trained(base, tmp_path / "saved"), tmp_path / "out", kind="gguf")
    assert (tmp_path / "out" / "LICENSE").read_text() == "Apache-2.0\n"


@pytest.mark.parametrize(("kind", "bound"), [("f16", 1e-3), ("bf16", 8e-3), ("q8_0", 1e-2)])
def test_each_type_is_as_near_as_its_bits_allow(tiny_folder, written, tmp_path, kind, bound):
    base = tiny_folder()
    model.write_model(base, loader().tokenizer(base), tmp_path / "model.gguf", kind, "org/base")
    exact, rounded = tensors(written), tensors(tmp_path / "model.gguf")
    apart = {name: np.abs(rounded[name] - exact[name]).max() / np.abs(exact[name]).max() for name in exact}
    assert max(apart.values()) < bound
    assert max(apart.values()) > 0
    assert all(apart[name] == 0 for name in exact if "norm" in name), "vectors stay in fp32"


def test_template_and_the_ends_of_answers_are_in_the_file(written):
    assert value(written, "tokenizer.chat_template") == TEMPLATE
    assert value(written, "tokenizer.ggml.eos_token_id") == EOS
    assert value(written, "tokenizer.ggml.bos_token_id") == 1
    assert value(written, "tokenizer.ggml.add_bos_token") is False
    assert value(written, "tokenizer.ggml.pre") == "gpt-2"
    tokens, kinds = value(written, "tokenizer.ggml.tokens"), value(written, "tokenizer.ggml.token_type")
    assert len(tokens) == len(kinds) == VOCABULARY
    assert (tokens[EOS], kinds[EOS]) == ("<|im_end|>", gguf.TokenType.CONTROL)


def test_a_bos_that_the_tokenizer_puts_is_put_by_llama_cpp_too(tmp_path):
    base = tiny_model(tmp_path / "base")
    rules = json.loads((base / "tokenizer.json").read_text())
    bos = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    rules["post_processor"] = {
        "type": "TemplateProcessing", "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
    }  # fmt: skip
    (base / "tokenizer.json").write_text(json.dumps(rules))
    model.write_model(base, loader().tokenizer(base), tmp_path / "model.gguf", "f32", "org/base")
    assert value(tmp_path / "model.gguf", "tokenizer.ggml.add_bos_token") is True


def test_a_second_stop_and_a_penalty_are_in_the_file(tmp_path):
    base = tiny_model(tmp_path / "base")
    generation = {"eos_token_id": [EOS, 0, 7], "repetition_penalty": 1.5}
    (base / "generation_config.json").write_text(json.dumps(generation))
    model.write_model(base, loader().tokenizer(base), tmp_path / "model.gguf", "f32", "org/base")
    # token 0 is <|endoftext|>, at which llama.cpp ends by itself
    assert value(tmp_path / "model.gguf", "tokenizer.ggml.eot_token_id") == 7
    assert value(tmp_path / "model.gguf", "general.sampling.penalty_repeat") == 1.5


def test_our_reader_of_the_head_sees_what_the_librarys_sees(written):
    header, theirs = read_header(written), gguf.GGUFReader(written)
    assert {name: held.shape for name, held in header.tensors.items()} == {
        tensor.name: tuple(int(axis) for axis in reversed(tensor.shape)) for tensor in theirs.tensors
    }
    said = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert header.values == said
    assert header.data == theirs.data_offset


def test_shards_are_read_as_one(tiny_folder, written, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_folder(), base)
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).save_pretrained(base, max_shard_size="200KB")
    (base / "model.safetensors").unlink()
    model.write_model(base, loader().tokenizer(base), tmp_path / "model.gguf", "f32", "org/base")
    assert (tmp_path / "model.gguf").read_bytes() == written.read_bytes()


def test_a_block_of_rows_at_a_time_gives_the_same_file(tiny_folder, written, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "AT_ONCE", 100)  # one or two rows
    base = tiny_folder()
    model.write_model(base, loader().tokenizer(base), tmp_path / "model.gguf", "f32", "org/base")
    assert (tmp_path / "model.gguf").read_bytes() == written.read_bytes()
