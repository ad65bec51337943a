"""A base is never loaded whole to be merged into: its files are read as they lie, and written again as they lay."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft_work import apart, load, merge, moved, save, wrap
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tiny import backend
from tunewright.errors import Refused
from tunewright.parts.adapter import ModelDir
from tunewright.pipeline.forms import identity_of
from tunewright_peft.lora import Lora
from tunewright_transformers.tensors import Tensors

INDEX = "model.safetensors.index.json"


def trained(folder, out, dtype="fp32", **options):
    """(method, the model as a training leaves it, what was saved of it)."""
    method = backend(Lora, r=4, **options)
    model = moved(wrap(folder, method, dtype=dtype))
    return method, model, save(method, model, out)


def biased(folder, out):
    """The same model with biases that do something."""
    shutil.copytree(folder, out)
    found = load_file(out / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name in sorted(found):
        if name.endswith("bias"):
            found[name] = torch.randn(found[name].shape, generator=generator)
    save_file(found, out / "model.safetensors", metadata={"format": "pt"})
    return out


def sharded(folder, out, *, first):
    """The same model in many files, biases apart from their weights: in the first ones, or in the last."""
    shutil.copytree(folder, out)
    found = load_file(out / "model.safetensors")
    (out / "model.safetensors").unlink()
    names = sorted(found, key=lambda name: (name.endswith("bias") is not first, name))
    parts = [names[start : start + 5] for start in range(0, len(names), 5)]
    where = {}
    for number, part in enumerate(parts, 1):
        file = f"model-{number:05}-of-{len(parts):05}.safetensors"
        save_file({name: found[name] for name in part}, out / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    (out / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return out


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def whole(folder):
    tensors = Tensors(folder)
    return {name: tensors.read(name) for name in tensors.stored}


@pytest.mark.parametrize("first", [True, False], ids=["biases first", "weights first"])
@pytest.mark.parametrize("options", [{}, {"targets": ["q_proj", "embed_tokens"]}], ids=["layers", "embedding"])
def test_a_base_in_many_files_stays_in_them(tiny_folder, tmp_path, options, first):
    plain = biased(tiny_folder("qwen2"), tmp_path / "plain")
    method, model, saved = trained(plain, tmp_path / "saved", **options)
    base = sharded(plain, tmp_path / "base", first=first)
    one = merge(method, plain, saved, tmp_path / "one")
    many = merge(method, base, saved, tmp_path / "many")
    assert {path.name for path in many.iterdir()} == {path.name for path in base.iterdir()}
    where = json.loads((many / INDEX).read_text())
    assert where["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in whole(many).values())
    assert {name for name in where["weight_map"] if name in load_file(many / where["weight_map"][name])} == set(
        where["weight_map"]
    )
    found, expected = whole(many), whole(one)
    assert found.keys() == expected.keys() == where["weight_map"].keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert apart(load(many), model) < 1e-4


@pytest.mark.parametrize("options", [{}, {"dora": True}, {"modules_to_save": ["lm_head"]}])
def test_the_base_is_never_changed_and_a_second_merge_is_the_first(tiny_folder, tmp_path, options):
    """The weights that are merged into are memory over the base's own files."""
    method, _, saved = trained(tiny_folder(), tmp_path / "saved", **options)
    before = content(tiny_folder())
    first, second = (merge(method, tiny_folder(), saved, tmp_path / name) for name in ("one", "two"))
    assert content(tiny_folder()) == before
    assert content(first) == content(second)


def test_what_was_merged_is_not_merged_into_again(tiny_folder, tmp_path):
    method, _, saved = trained(tiny_folder(), tmp_path / "saved")
    out = merge(method, tiny_folder(), saved, tmp_path / "out")
    with pytest.raises(Refused, match="not empty"):
        merge(method, tiny_folder(), saved, out)
    with pytest.raises(Refused, match="is not the one that was trained on"):  # as a base it is another one
        merge(method, out, saved, tmp_path / "twice", identity=identity_of(tiny_folder()))


def test_another_base_of_the_same_shape_is_refused(tiny_folder, tmp_path):
    method, _, saved = trained(tiny_folder(), tmp_path / "saved")
    with pytest.raises(Refused, match="is not the one that was trained on"):
        merge(method, tiny_folder(seed=1), saved, tmp_path / "out", identity=identity_of(tiny_folder()))
    assert not list((tmp_path / "out").iterdir())


def test_another_base_of_another_shape_is_refused(tiny_folder, tmp_path):
    method, _, saved = trained(tiny_folder(), tmp_path / "saved", modules_to_save=["model.norm"])
    config = json.loads((tiny_folder() / "config.json").read_text())
    base = shutil.copytree(tiny_folder(), tmp_path / "base")
    (base / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(Refused, match="does not match"):
        merge(method, base, saved, tmp_path / "out")


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
@pytest.mark.parametrize("trained_in", ["fp32", "bf16"])
def test_numbers_are_rounded_once_at_the_end(tiny_folder, tmp_path, stored, trained_in):
    """Whatever types the files, the training and the export have: what was trained whole keeps its fp32 too."""
    folder = tiny_folder(dtype=stored)
    method, _, saved = trained(folder, tmp_path / "saved", trained_in, dora=True, modules_to_save=["model.norm"])
    exact = whole(merge(method, folder, saved, tmp_path / "fp32", "fp32", trained=trained_in))
    rounded = whole(merge(method, folder, saved, tmp_path / "bf16", "bf16", trained=trained_in))
    base = load_file(folder / "model.safetensors")
    for name, tensor in exact.items():
        assert torch.equal(rounded[name], tensor.to(torch.bfloat16)), name
        changed = "proj" in name or name == "model.norm.weight"
        assert torch.equal(tensor, base[name].float()) is not changed, name
        assert "proj" not in name or not torch.equal(tensor, rounded[name].float()), "it was summed in bf16"
    kept = load_file(saved / "adapter_model.safetensors")["base_model.model.model.norm.weight"]
    assert torch.equal(exact["model.norm.weight"], kept.float())


def test_numbers_that_the_type_cannot_hold_are_refused_by_name(tiny_folder, tmp_path):
    base = shutil.copytree(tiny_folder(), tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][3] = 7e4
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    method, _, saved = trained(base, tmp_path / "saved")
    merge(method, base, saved, tmp_path / "bf16", "bf16")
    with pytest.raises(Refused, match=r"`model\.norm\.weight` has numbers that are too large for float16"):
        merge(method, base, saved, tmp_path / "fp16", "fp16")
    assert not list((tmp_path / "fp16").iterdir())
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Refused, match=r"`model\.norm\.weight` has numbers that are infinite or none"):
        merge(method, base, saved, tmp_path / "nan", "bf16")


def test_files_that_leave_out_the_bodys_name_are_understood(tiny_folder, tmp_path):
    base = shutil.copytree(tiny_folder(), tmp_path / "base")
    named = {name.removeprefix("model."): tensor for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(named, base / "model.safetensors", metadata={"format": "pt"})
    method, model, saved = trained(tiny_folder(), tmp_path / "saved", targets=["q_proj", "embed_tokens"])
    assert apart(load(merge(method, base, saved, tmp_path / "out")), model) < 1e-4


def test_weights_that_the_files_call_otherwise_are_refused_where_they_are_adapted(tiny_folder, tmp_path):
    base = shutil.copytree(tiny_folder(), tmp_path / "base")
    named = {name.replace("q_proj", "wq"): tensor for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(named, base / "model.safetensors", metadata={"format": "pt"})
    method, _, saved = trained(tiny_folder(), tmp_path / "saved")
    with pytest.raises(Refused, match=r"hold no `model\.layers\.0\.self_attn\.q_proj\.weight`, which the adapter"):
        merge(method, base, saved, tmp_path / "out")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda base: (base / "model.safetensors").write_bytes(b"garbage"), "holds no whole model"),
        (lambda base: (base / "model.safetensors").unlink(), "holds no whole model"),
        (lambda base: (base / INDEX).write_text("{}"), "names no shards"),
        (lambda base: (base / INDEX).write_text('{"weight_map": {"a": "../b.safetensors"}}'), "outside its folder"),
        (lambda base: (base / "config.json").write_text("[]"), "config.json cannot be read|cannot be told"),
        (lambda base: (base / "config.json").write_text('{"model_type": "odd"}'), "cannot be told"),
        (lambda base: (base / "config.json").write_text('{"quantization_config": {"bits": 4}}'), "stored quantized"),
        (lambda base: (base / "pytorch_model.bin").write_bytes(b"pickle"), "safetensors alone"),
    ],
)
def test_a_base_that_is_not_whole_is_refused(tiny_folder, tmp_path, spoil, says):
    method, _, saved = trained(tiny_folder(), tmp_path / "saved")
    base = shutil.copytree(tiny_folder(), tmp_path / "base")
    spoil(base)
    with pytest.raises(Refused, match=says):
        merge(method, base, saved, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_loader_that_knows_no_modules_takes_no_merge(tiny_folder, tmp_path):
    method, _, saved = trained(tiny_folder(), tmp_path / "saved")
    with pytest.raises(Refused, match="cannot be told from its config"):
        method.merge(ModelDir(tiny_folder(), None, "fp32"), saved, tmp_path, "fp32")


def test_the_files_are_what_other_libraries_read(tiny_folder, tmp_path):
    base = shutil.copytree(tiny_folder(), tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    told = {**config, "_name_or_path": str(base), "torch_dtype": "float32", "use_cache": False, "kept": [1]}
    (base / "config.json").write_text(json.dumps(told))
    method, model, saved = trained(tiny_folder(), tmp_path / "saved")
    out = merge(method, base, saved, tmp_path / "out", "fp16")
    made = json.loads((out / "config.json").read_text())
    assert (made["dtype"], made["use_cache"], made["kept"]) == ("float16", True, [1])
    assert not {"_name_or_path", "torch_dtype"} & made.keys()
    raw = (out / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header["__metadata__"] == {"format": "pt"}
    assert len(raw[: 8 + int.from_bytes(raw[:8], "little")]) % 8 == 0
    plain = AutoModelForCausalLM.from_pretrained(out)
    assert plain.dtype == torch.float16
    assert apart(plain.float(), model) < 5e-3
