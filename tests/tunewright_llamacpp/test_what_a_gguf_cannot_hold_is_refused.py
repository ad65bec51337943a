"""No tensor is left out, no tokenizer guessed: what llama.cpp would take for something else is refused by name."""

from __future__ import annotations

import json

import pytest
import torch
from llama_work import loader
from safetensors.torch import load_file, save_file

from tiny import tiny_model
from tunewright.errors import Refused
from tunewright_llamacpp import model
from tunewright_llamacpp.header import read_header
from tunewright_llamacpp.vocabulary import CUTS, pre_type


@pytest.fixture
def base(tmp_path):
    return tiny_model(tmp_path / "base")


def refused(base, tmp_path, words, kind="f32"):
    out = tmp_path / "model.gguf"
    with pytest.raises(Refused, match=words):
        model.write_model(base, loader().tokenizer(base), out, kind, "org/base")
    assert not out.exists(), "nothing is left half written"


def weights(base, change):
    tensors = load_file(base / "model.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in change(tensors).items()}, base / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_tensor_without_a_place(base, tmp_path):
    weights(base, lambda tensors: {**tensors, "model.layers.0.mlp.extra.weight": torch.ones(2, 2)})
    refused(base, tmp_path, r"no place for the tensor `model\.layers\.0\.mlp\.extra\.weight`")


def test_a_head_that_is_missing_would_be_read_as_tied(tmp_path):
    base = tiny_model(tmp_path / "base", tied=False)
    weights(base, lambda tensors: {name: t for name, t in tensors.items() if name != "lm_head.weight"})
    refused(base, tmp_path, r"hold no `lm_head\.weight`")


def test_a_tied_head_that_is_another_tensor(base, tmp_path):
    weights(base, lambda tensors: {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"] + 1})
    refused(base, tmp_path, "ties `lm_head.weight` to the embeddings, and the files hold another one")


def test_a_tied_head_that_is_stored_twice_is_written_once(base, tmp_path):
    weights(base, lambda tensors: {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    model.write_model(base, loader().tokenizer(base), tmp_path / "model.gguf", "f32", "org/base")
    assert "output.weight" not in read_header(tmp_path / "model.gguf").tensors


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [(float("nan"), "f32", "infinite or none"), (1e6, "f16", "too large for f16")],
)
def test_a_number_that_does_not_fit(base, tmp_path, number, kind, words):
    def spoil(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = number
        return tensors

    weights(base, spoil)
    refused(base, tmp_path, rf"`model\.layers\.1\.mlp\.up_proj\.weight` has numbers that are {words}", kind)


def test_a_tensor_that_was_not_written_is_missed(base, tmp_path, monkeypatch):
    """A writer that passes over one tells nobody: the file is read again, and its tensors are counted."""
    writer = model.library().GGUFWriter
    add = writer.add_tensor_info

    def forgetful(self, name, *about, **more):
        if name != "blk.1.ffn_up.weight":
            add(self, name, *about, **more)

    monkeypatch.setattr(writer, "add_tensor_info", forgetful)
    refused(base, tmp_path, r"of 20 tensors, 19 were written: `blk\.1\.ffn_up\.weight` does not stand in the GGUF")


def test_a_tensor_in_another_shape_is_missed(base, tmp_path, monkeypatch):
    writer = model.library().GGUFWriter
    add = writer.add_tensor_info

    def turned(self, name, shape, *about, **more):
        add(self, name, shape[::-1] if name == "blk.0.attn_k.weight" else shape, *about, **more)

    monkeypatch.setattr(writer, "add_tensor_info", turned)
    refused(base, tmp_path, r"of 20 tensors, 20 were written: `blk\.0\.attn_k\.weight` does not stand in the GGUF")


def test_a_file_that_ends_too_early_is_missed(base, tmp_path, monkeypatch):
    written = model._write

    def cut(writer, *rest):
        written(writer, *rest)
        (file,) = writer.fout
        file.truncate(file.tell() - 64)

    monkeypatch.setattr(model, "_write", cut)
    refused(base, tmp_path, "the GGUF has another length")


def test_another_family(base, tmp_path):
    edit(base / "config.json", model_type="gpt2")
    refused(base, tmp_path, "models of type `gpt2` are not written as GGUF here")


def test_another_rotation(base, tmp_path):
    asked = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    edit(base / "config.json", rope_parameters=asked)
    refused(base, tmp_path, r"rotation .*dynamic.* is not written")


def test_another_activation(base, tmp_path):
    edit(base / "config.json", hidden_act="gelu")
    refused(base, tmp_path, "activation is gelu")


def test_more_ends_of_answers_than_a_gguf_can_name(base, tmp_path):
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5, 6, 7]}))
    refused(base, tmp_path, "end at more tokens than a GGUF can name")


def test_a_template_that_names_a_bos_which_is_not_there(base, tmp_path):
    edit(base / "tokenizer_config.json", bos_token=None)
    (base / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0]['content'] }}")
    refused(base, tmp_path, "names `bos_token`, and the tokenizer has none")


def byte_level(**changes):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True, **changes}


def rules(*steps, whole_words=False, **changes):
    cut = {"type": "Sequence", "pretokenizers": list(steps)}
    return {"model": {"type": "BPE", "ignore_merges": whole_words}, "normalizer": None, "pre_tokenizer": cut, **changes}


def split(expression, **changes):
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False, **changes}


QWEN, LLAMA3 = (
    next(steps[0] for (steps, _), name in CUTS.items() if name == asked) for asked in ("qwen2", "llama-bpe")
)
DIGITS = {"type": "Digits", "individual_digits": True}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (rules(byte_level()), "gpt-2"),
        (rules(DIGITS, byte_level()), "smollm"),
        (rules(split(QWEN), byte_level(use_regex=False), normalizer={"type": "NFC"}), "qwen2"),
        (rules(split(LLAMA3), byte_level(use_regex=False), whole_words=True), "llama-bpe"),
    ],
)
def test_the_way_of_cutting_gives_llama_cpps_name_of_it(given, name):
    assert pre_type(given) == name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (rules(split(LLAMA3), byte_level(use_regex=False)), "cuts texts by"),  # merges where Llama 3 takes whole words
        (rules(byte_level(), whole_words=True), "cuts texts by"),
        (rules(byte_level(add_prefix_space=True)), "add_prefix_space"),
        (rules(split(r"\d+"), byte_level(use_regex=False)), r"\\d\+"),
        (rules(split(QWEN, behavior="Removed"), byte_level(use_regex=False)), "Removed"),
        (rules(byte_level(), normalizer={"type": "Lowercase"}), "normalizes texts by Lowercase"),
        ({"model": {"type": "BPE", "byte_fallback": True}}, "not a byte-level BPE"),
        ({"model": {"type": "Unigram"}}, "not a byte-level BPE"),
    ],
)
def test_another_way_of_cutting_is_never_guessed(given, words):
    with pytest.raises(Refused, match=words):
        pre_type(given)
