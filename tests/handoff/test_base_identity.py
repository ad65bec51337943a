"""Which base a package belongs on, and that no other one is taken for it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from handoff.packages import contents, floats, model_folder, safetensors, with_header
from tunewright.digest import canonical_json, digest_json
from tunewright.handoff.package import build
from tunewright.handoff.verify import check, model_identity

WEIGHTS = {"w": floats(1, 2), "v": floats(3)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model", WEIGHTS)


def test_the_identity_is_the_one_that_is_written_down(model):
    def tensor(name: str) -> str:
        dtype, shape, data = WEIGHTS[name]
        return hashlib.sha256(canonical_json({"dtype": dtype, "name": name, "shape": shape}) + data).hexdigest()

    parts = {
        "tensors": digest_json({"v": tensor("v"), "w": tensor("w")}),
        "tokenizer": digest_json({"tokenizer.json": hashlib.sha256(b'{"model": {}}').hexdigest()}),
        "template": hashlib.sha256(b"{{ messages }}").hexdigest(),
    }
    assert model_identity(model) == {**parts, "identity": digest_json(parts), "special": {}}


def test_shards_order_and_metadata_do_not_change_the_identity(model, tmp_path):
    other = model_folder(tmp_path / "other")
    (other / "model.safetensors").unlink()
    (other / "model-00001-of-00002.safetensors").write_bytes(safetensors({"v": WEIGHTS["v"]}))
    header = json.dumps({"w": {"data_offsets": [0, 8], "shape": [2], "dtype": "F32"}}).encode() + b"   "
    (other / "model-00002-of-00002.safetensors").write_bytes(with_header(header, WEIGHTS["w"][2]))
    (other / "README.md").write_text("x")
    assert model_identity(other) == model_identity(model)


def test_a_template_counts_the_same_wherever_it_stands(model):
    before = model_identity(model)
    (model / "chat_template.jinja").unlink()
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert model_identity(model) == before
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": [{"name": "default", "template": "x"}]}))
    assert model_identity(model)["template"] != before["template"]


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        (lambda m: (m / "model.safetensors").write_bytes(safetensors({**WEIGHTS, "v": floats(3.5)})), "tensors"),
        (lambda m: (m / "model.safetensors").write_bytes(safetensors({"w": WEIGHTS["w"]})), "tensors"),
        (lambda m: (m / "more.safetensors").write_bytes(safetensors({"x": floats(1)})), "tensors"),
        (
            lambda m: (m / "model.safetensors").write_bytes(
                safetensors({"w": ("F32", [2, 1], WEIGHTS["w"][2]), "v": WEIGHTS["v"]})
            ),
            "tensors",
        ),
        (lambda m: (m / "tokenizer.json").write_text("{}"), "tokenizer"),
        (lambda m: (m / "merges.txt").write_text(""), "tokenizer"),
        (lambda m: (m / "chat_template.jinja").write_text("x"), "template"),
        (lambda m: (m / "chat_template.jinja").unlink(), "template"),
    ],
)
def test_another_base_is_refused_and_the_part_named(model, tmp_path, changed, part):
    identity = model_identity(model)
    package = build(contents(tmp_path / "in", base={"name": "org/tiny", **identity}), tmp_path)
    assert check(package, base=model) == []
    other = Path(shutil.copytree(model, tmp_path / "other"))
    changed(other)
    found = check(package, base=other)
    assert len(found) == 1
    assert f"is not the base 'org/tiny' that this belongs on (other {part})" in found[0]


TOLD = {
    "tokenizer_config.json": {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "add_bos_token": True},
    "special_tokens_map.json": {"eos_token": "of no account", "pad_token": "<pad>"},
    "generation_config.json": {"eos_token_id": [7, 2]},
    "config.json": {"eos_token_id": 9},
}


def told(folder, **changes):
    """Write what a base says of its special tokens; a file that is None is removed."""
    for name, said in {**TOLD, **{f"{name}.json": said for name, said in changes.items()}}.items():
        (folder / name).unlink(missing_ok=True)
        if said is not None:
            (folder / name).write_text(json.dumps(said))


def test_the_special_tokens_are_those_that_the_files_name(model):
    told(model)
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "add_bos_token": True}
    assert model_identity(model)["special"] == {**tokens, "ends": [2, 7]}
    told(model, generation_config=None)
    assert model_identity(model)["special"]["ends"] == [9]


def test_tokens_that_were_added_to_a_bare_vocabulary_are_told(model):
    (model / "tokenizer.json").rename(model / "vocab.json")
    (model / "added_tokens.json").write_text('{"<one>": 5}')
    (model / "tokenizer_config.json").write_text('{"added_tokens_decoder": {"6": {"content": "<two>"}}}')
    assert model_identity(model)["special"] == {"added_tokens": {"<one>": 5, "<two>": 6}}


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"tokenizer_config": {"eos_token": "<|end|>"}}, "eos_token"),
        ({"tokenizer_config": {**TOLD["tokenizer_config.json"], "add_bos_token": False}}, "add_bos_token"),
        ({"special_tokens_map": {"pad_token": "</s>"}}, "pad_token"),
        ({"generation_config": {"eos_token_id": 2}}, "ends"),
    ],
)
def test_a_base_that_differs_in_a_special_token_alone_is_refused_by_its_name(model, tmp_path, changed, part):
    told(model)
    package = build(contents(tmp_path / "in", base={"name": "org/tiny", **model_identity(model)}), tmp_path)
    assert check(package, base=model) == []
    told(model, **changed)
    (found,) = check(package, base=model)
    assert found.endswith(f"that this belongs on (other {part})")


def test_what_saving_a_tokenizer_anew_leaves_out_or_adds_is_no_other_base(model, tmp_path):
    told(model)
    package = build(contents(tmp_path / "in", base={"name": "org/tiny", **model_identity(model)}), tmp_path)
    config = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "backend": "x"}
    told(model, tokenizer_config=config, special_tokens_map=None)
    assert check(package, base=model) == []


def test_a_package_of_an_earlier_version_tells_no_special_tokens_and_verifies(model, tmp_path):
    told(model)
    known = {name: digest for name, digest in model_identity(model).items() if name != "special"}
    package = build(contents(tmp_path / "in", base={"name": "org/tiny", **known}), tmp_path)
    assert check(package, base=model) == []
    (model / "tokenizer.json").write_text("{}")
    assert "(other tokenizer)" in check(package, base=model)[0]


def test_a_base_that_cannot_be_read_is_refused(model, tmp_path):
    package = build(contents(tmp_path / "in", base={"name": "b", **model_identity(model)}), tmp_path)
    (model / "model.safetensors").write_bytes(b"torn")
    (tmp_path / "empty").mkdir()
    for folder in (model, tmp_path / "empty", tmp_path / "nothing"):
        assert "cannot be read" in check(package, base=folder)[0]


def test_a_tensor_in_two_shards_has_no_identity(model):
    (model / "again.safetensors").write_bytes(safetensors({"w": WEIGHTS["w"]}))
    with pytest.raises(ValueError, match="holds tensor 'w' twice"):
        model_identity(model)
