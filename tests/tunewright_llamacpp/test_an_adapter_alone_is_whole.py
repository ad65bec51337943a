"""A LoRA as GGUF carries the trained numbers themselves, scaled as PEFT scales them, and leaves nothing out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from llama_work import export, tensors, trained, value
from safetensors.torch import load_file, save_file

from tiny import backend
from tunewright.digest import digest_tensors
from tunewright.errors import Refused
from tunewright.host import Host
from tunewright.parts import Cap
from tunewright_llamacpp import adapter
from tunewright_peft.lora import Lora
from tunewright_transformers.full import FullTuning

SCALED = [{}, {"rslora": True}, {"rank_pattern": {"q_proj": 2}}, {"init": "pissa"}]


@pytest.mark.parametrize("options", SCALED, ids=str)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_on_the_base_it_is_the_merged_model(tiny_folder, tmp_path, family, options):
    """As llama.cpp computes: W + alpha / rank · B A, in its own order of rows."""
    what = trained(tiny_folder(family), tmp_path / "saved", **options)
    export(what, tmp_path / "lora", kind="gguf-lora")
    export(what, tmp_path / "merged", kind="gguf", type="f32")
    plain = backend(Lora, r=4, alpha=8)
    untouched = trained(tiny_folder(family), tmp_path / "still", plain, step=0.0)
    export(untouched, tmp_path / "base", kind="gguf", type="f32")
    base, merged, halves = (
        tensors(tmp_path / folder / file)
        for folder, file in (("base", "model.gguf"), ("merged", "model.gguf"), ("lora", "adapter.gguf"))
    )
    alpha = value(tmp_path / "lora" / "adapter.gguf", "adapter.lora.alpha")
    changed = {name.rpartition(".")[0] for name in halves}
    assert len(changed) == 14, "seven projections of each layer"
    for name, weight in base.items():
        if name in changed:
            a, b = halves[f"{name}.lora_a"], halves[f"{name}.lora_b"]
            weight = weight + alpha / b.shape[1] * (b @ a)
        assert np.allclose(weight, merged[name], atol=1e-5), name


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_its_identity_is_that_of_what_was_trained(tiny_folder, tmp_path, family):
    what = trained(tiny_folder(family), tmp_path / "saved")
    form = export(what, tmp_path / "lora", kind="gguf-lora")
    saved = load_file(what.saved / "adapter_model.safetensors")
    assert adapter.identity(tmp_path / "lora" / "adapter.gguf", what.base) == digest_tensors(saved.items())
    assert (form.engine, form.attach, form.dtype) == ("llama-cpp", True, None)
    assert form.options == {"cache_type": "f32"}, "trained in 32 bits, it is asked without rounding"
    assert value(tmp_path / "lora" / "adapter.gguf", "tunewright.base") == what.identity, "as one of PEFT names it"


def test_one_changed_number_is_another_identity(tiny_folder, tmp_path):
    what = trained(tiny_folder(), tmp_path / "saved")
    export(what, tmp_path / "lora", kind="gguf-lora")
    file = tmp_path / "lora" / "adapter.gguf"
    before, data = adapter.identity(file, what.base), bytearray(file.read_bytes())
    data[-40] ^= 1
    file.write_bytes(data)
    assert adapter.identity(file, what.base) != before


REFUSED = [
    ({"dora": True}, "it is DoRA"),
    ({"modules_to_save": ["model.norm"]}, "modules that were trained whole"),
    ({"alpha_pattern": {"q_proj": 3}}, "scaled apart"),
    ({"rslora": True, "rank_pattern": {"q_proj": 2}}, "scaled apart"),
    ({"targets": ["q_proj", "lm_head"]}, r"`base_model\.model\.lm_head\.lora_A\.weight` has no place"),
    ({"targets": ["q_proj", "embed_tokens"]}, "embed_tokens"),
    ({"args": {"lora_bias": True}}, "B has a bias"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=str)
def test_what_a_gguf_cannot_say_is_refused_by_name(tiny_folder, tmp_path, options, words):
    """llama.cpp would pass over some of it in silence, as a trained norm."""
    what = trained(tiny_folder(), tmp_path / "saved", **options)
    with pytest.raises(Refused, match=words):
        export(what, tmp_path / "lora", kind="gguf-lora")
    assert list((tmp_path / "lora").iterdir()) == []


@pytest.mark.parametrize("options", [options for options, _ in REFUSED], ids=str)
def test_validate_knows_it_before_a_training(options):
    exporter, engine = Host().make("exporter", {"kind": "gguf-lora"}), Host().make("engine", {"kind": "llama-cpp"})
    for needs in (exporter.needs(), engine.attaching()):
        assert ("adapter", Cap.LLAMACPP, "target-cannot-load") in [need[:3] for need in needs]
    assert Cap.LLAMACPP not in backend(Lora, **options).offers()
    assert Cap.LLAMACPP in backend(Lora).offers()


def test_validate_knows_that_llama_cpp_does_not_hold_a_packed_base():
    exporter, engine = Host().make("exporter", {"kind": "gguf-lora"}), Host().make("engine", {"kind": "llama-cpp"})
    for needs in (exporter.needs(), engine.attaching()):
        (need,) = [need for need in needs if need.part == "quantizer"]
        assert need.cap not in Host().make("quantizer", {"kind": "nf4"}).offers()
        assert need.cap in Host().make("quantizer", {"kind": "none"}).offers()


def test_a_foreign_adapters_head_is_not_dropped(tiny_folder, tmp_path):
    """Over a base whose head is a tensor of its own, it stands in the file; over a tied one it is refused by name."""
    what = trained(tiny_folder(tied=False), tmp_path / "saved", targets=["q_proj", "lm_head"])
    export(what, tmp_path / "lora", kind="gguf-lora")
    found = tensors(tmp_path / "lora" / "adapter.gguf")
    assert {"output.weight.lora_a", "output.weight.lora_b"} < set(found)
    with pytest.raises(Refused, match=r"`base_model\.model\.lm_head\.lora_A\.weight` has no place"):
        export(what._replace(base=tiny_folder()), tmp_path / "tied", kind="gguf-lora")


def spoiled(what, change):
    file = what.saved / "adapter_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}, file)
    return what


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: dict(list(found.items())[1:]), "stands without"),
        (lambda found: {n: t for n, t in found.items() if "layers.1.mlp.up_proj" not in n}, r"layers\.1\.mlp\.up_proj"),
        (lambda found: {**found, "base_model.model.model.norm.weight": torch.ones(64)}, r"model\.norm\.weight"),
        (lambda found: {n: t * float("nan") for n, t in found.items()}, "not finite"),
    ],
    ids=["half a pair", "a module less", "a norm more", "no numbers"],
)
def test_an_adapter_that_is_not_whole_is_refused(tiny_folder, tmp_path, change, words):
    what = spoiled(trained(tiny_folder(), tmp_path / "saved"), change)
    with pytest.raises(Refused, match=words):
        export(what, tmp_path / "lora", kind="gguf-lora")


def test_another_methods_adapter_is_refused(tiny_folder, tmp_path):
    what = trained(tiny_folder(), tmp_path / "saved")
    config = what.saved / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "peft_type": "VERA"}))
    with pytest.raises(Refused, match=r"a VERA, and llama\.cpp knows LoRA alone"):
        export(what, tmp_path / "lora", kind="gguf-lora")


def test_after_full_tuning_there_is_no_adapter(tiny_folder, tmp_path):
    what = trained(tiny_folder(), tmp_path / "saved", backend(FullTuning))
    with pytest.raises(Refused, match="export it as `gguf`"):
        export(what, tmp_path / "lora", kind="gguf-lora")
