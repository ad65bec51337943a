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
    assert model_identity(model) == {**parts, "identity": digest_json(parts)}


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
