"""`merged`: a whole model, into the weights that were trained on or into the original ones."""

from __future__ import annotations

import pytest
import torch

from tiny import backend
from tunewright.errors import Refused
from tunewright.host import Host
from tunewright.parts import Cap, Facts
from tunewright.parts.exporter import Form, Trained
from tunewright.parts.whole import Whole
from tunewright.pipeline.forms import identity_of
from tunewright_bitsandbytes.int8 import Int8
from tunewright_bitsandbytes.nf4 import Nf4
from tunewright_peft.lora import Lora
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.merged import MergedExporter
from tunewright_transformers.unquantized import NoQuantizer

IDS = torch.arange(3, 40)[None]
PACKED, PLAIN = (frozenset(backend(kind).offers()) for kind in (Nf4, NoQuantizer))


def load(folder, kind=NoQuantizer, use="infer", dtype="fp32", **options):
    return backend(TransformersLoader).model(folder, backend(kind, **options), dtype, use)


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits.float()


def apart(one, other):
    return ((one - other).norm() / other.norm()).item()


def trained(folder, out, kind=NoQuantizer, **options):
    """What an exporter is given after a training of LoRA on this base."""
    method = backend(Lora, r=4, **options)
    model = method.wrap(load(folder, kind, "train", **packing(kind)), None)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += (0.05 * torch.randn(parameter.shape, generator=generator)).to(parameter.dtype)
    out.mkdir()
    method.save(model, out)
    loader = backend(TransformersLoader)
    whole = Whole(loader, backend(kind, **packing(kind)), method, "fp32", identity_of)
    return Trained(out, folder, identity_of(folder), "Tiny", "transformers", loader.tokenizer(folder), True, whole)


def packing(kind):
    return {"compute_dtype": "fp32"} if kind is Nf4 else {}


def export(given, out, **options):
    out.mkdir()
    form = backend(MergedExporter, **options).export(given, out)
    assert form == Form("transformers", attach=False, dtype=options.get("dtype", "fp32"), speaks=True)
    return out


@pytest.mark.parametrize("options", [{}, {"dora": True}, {"targets": ["q_proj", "lm_head"]}])
def test_from_a_packed_base_it_is_what_was_trained_or_stands_on_the_original(tiny_folder, tmp_path, options):
    folder = tiny_folder(tied=False)
    given = trained(folder, tmp_path / "saved", Nf4, **options)
    method = given.whole.method
    asked = logits(method.attach(load(folder, Nf4, **packing(Nf4)), given.saved))
    on_original = logits(method.attach(load(folder), given.saved))
    as_trained = logits(load(export(given, tmp_path / "default")))
    dequantized = logits(load(export(given, tmp_path / "dequantized", into="dequantized")))
    original = logits(load(export(given, tmp_path / "original", into="original")))
    assert torch.equal(as_trained, dequantized)
    assert apart(as_trained, asked) < 1e-4
    assert apart(original, on_original) < 1e-4
    assert apart(original, asked) > 0.01


def test_from_an_8_bit_base_it_is_the_model_that_was_trained(tiny_folder, tmp_path):
    """As it is in a training: when it is asked, an 8-bit layer rounds its inputs besides, and no merge can do that."""
    folder = tiny_folder(tied=False)
    given = trained(folder, tmp_path / "saved", Int8)
    method = given.whole.method
    taught, asked = (logits(method.attach(load(folder, Int8, use), given.saved)) for use in ("train", "infer"))
    dequantized = logits(load(export(given, tmp_path / "dequantized")))
    original = logits(load(export(given, tmp_path / "original", into="original")))
    assert apart(dequantized, taught) < 1e-4 < apart(original, taught)
    assert apart(dequantized, asked) > 1e-3


def test_what_a_packed_layer_holds_is_told_exactly(tiny_folder):
    """Also on CPUs where the library would pack the layers anew as soon as they are asked."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit
    from safetensors.torch import load_file

    for double_quant in (True, False):
        quantizer = backend(Nf4, double_quant=double_quant, skip=["o_proj"])
        loader, folder = backend(TransformersLoader), tiny_folder(dtype="bfloat16")
        model = loader.model(folder, quantizer, "bf16", "infer")
        with torch.no_grad():
            model(IDS)
        config = model.config.to_dict()
        config.pop("quantization_config")
        outline = loader.outline(config)
        held, weights = quantizer.held(outline, "bf16"), load_file(folder / "model.safetensors")
        packed = {name for name, module in model.named_modules() if isinstance(module, Linear4bit)}
        assert packed
        assert not any(name.endswith("o_proj") for name in packed)
        assert not any(isinstance(module, Linear4bit) for module in outline.modules()), "the outline stays as it is"
        for name, weight in weights.items():
            layer = model.get_submodule(name.rpartition(".")[0])
            inside = isinstance(layer, Linear4bit)
            expected = dequantize_4bit(layer.weight.data, layer.weight.quant_state) if inside else layer.weight
            assert torch.equal(held(name, weight), expected), name
            assert torch.equal(held(name, weight), weight) is not inside


@pytest.mark.parametrize(
    ("offers", "into", "code"),
    [
        (PLAIN, "original", "argument-unused"),
        (PLAIN, "dequantized", "argument-unused"),
        (PLAIN, None, None),
        (PACKED, "original", None),
        (PACKED, "dequantized", None),
        (PACKED, None, None),
        (PACKED - {Cap.UNPACKS}, "dequantized", "cannot-merge"),
        (PACKED - {Cap.UNPACKS}, None, "cannot-merge"),
        (PACKED - {Cap.UNPACKS}, "original", None),
    ],
)
def test_which_weights_is_a_choice_where_there_are_two(offers, into, code):
    found = [*backend(MergedExporter, into=into).check(Facts(offers={"quantizer": offers}))]
    assert [finding.code for finding in found] == ([code] if code else [])
    assert all(finding.field == "into" and finding.suggestion for finding in found)


def test_it_needs_an_adapter_that_merges_and_a_base_that_takes_it():
    assert {(need.part, need.cap) for need in backend(MergedExporter).needs()} == {
        ("adapter", Cap.MERGES),
        ("quantizer", Cap.TAKES_MERGES),
    }


def test_a_base_in_the_cache_that_is_no_longer_the_trained_one_is_refused(tiny_folder, tmp_path):
    given = trained(tiny_folder(), tmp_path / "saved")._replace(base=tiny_folder(seed=1))
    (tmp_path / "out").mkdir()
    with pytest.raises(Refused, match="is not the one that was trained on"):
        backend(MergedExporter).export(given, tmp_path / "out")


def test_what_was_trained_without_its_backends_is_not_merged(tiny_folder, tmp_path):
    given = trained(tiny_folder(), tmp_path / "saved")._replace(whole=None)
    with pytest.raises(Refused, match="cannot be merged here"):
        backend(MergedExporter).export(given, tmp_path)


def test_it_comes_from_its_plugins_table():
    assert isinstance(Host().make("exporter", {"kind": "merged"}), MergedExporter)
