"""4-bit layers that are asked on a CPU keep what they unpack, where that is little, and answer as the library does."""

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tiny import backend
from tunewright.parts.memory import Shape
from tunewright_bitsandbytes import kept
from tunewright_bitsandbytes.fp4 import Fp4
from tunewright_bitsandbytes.int8 import Int8
from tunewright_bitsandbytes.nf4 import Nf4
from tunewright_peft.lora import Lora
from tunewright_transformers.loader import TransformersLoader

ROWS = (torch.arange(3, 60)[None], torch.arange(3, 7).view(4, 1), torch.tensor([[5]]))
"""A long row, four of one token as in decoding, and one of one token, for which the library has a kernel."""


def load(folder, quantizer, use="infer", dtype="bf16"):
    return backend(TransformersLoader).model(folder, quantizer, dtype, use)


def layers(model):
    return [module for module in model.modules() if type(module).__name__ == "Linear4bit"]


@torch.no_grad()
def answers(model):
    return [model(rows).logits for rows in ROWS]


@pytest.mark.parametrize("four", [Nf4, Fp4])
@pytest.mark.parametrize("compute", ["fp32", "bf16"])
@pytest.mark.parametrize("double", [True, False])
def test_it_answers_as_the_library_alone_does(tiny_folder, four, compute, double):
    folder, quantizer = tiny_folder(dtype="bfloat16"), backend(four, compute_dtype=compute, double_quant=double)
    config = BitsAndBytesConfig(**quantizer.describe())
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, quantization_config=config)
    for layer in layers(theirs):
        layer.support_avx512bf16_for_cpu = False
    ours = load(folder, quantizer)
    for found, expected in zip(answers(ours), answers(theirs.eval()), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert all(layer.kept_unpacked[2].dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[compute]
               for layer in layers(ours))  # fmt: skip


def test_a_training_keeps_nothing_unpacked(tiny_folder):
    model = load(tiny_folder(dtype="bfloat16"), backend(Nf4), "train")
    answers(model)
    assert not any(hasattr(layer, "kept_unpacked") for layer in layers(model))


def test_nor_does_a_model_that_would_take_much(tiny_folder, monkeypatch):
    folder = tiny_folder(dtype="bfloat16")
    count = sum(layer.in_features * layer.out_features for layer in layers(load(folder, backend(Nf4))))
    for most, keeps in ((2 * count, True), (2 * count - 1, False)):
        monkeypatch.setattr(kept, "KEPT_AT_MOST", most)
        model = load(folder, backend(Nf4))
        answers(model)
        assert {hasattr(layer, "kept_unpacked") for layer in layers(model)} == {keeps}


@pytest.mark.filterwarnings("ignore:Merge lora module to 4-bit")
def test_weights_that_a_merge_has_changed_are_unpacked_anew(tiny_folder):
    torch.manual_seed(0)
    model = backend(Lora).wrap(load(tiny_folder(dtype="bfloat16"), backend(Nf4, compute_dtype="fp32")), None)
    before = answers(model)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter.data, std=0.5)
    merged = model.merge_and_unload()
    after = answers(merged)
    assert not torch.allclose(after[0], before[0], atol=1e-2)
    for layer in layers(merged):
        layer.kept_unpacked = None
    assert all(torch.equal(*pair) for pair in zip(after, answers(merged), strict=True))


SHAPE = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 100,
    "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip


def test_the_forecast_knows_what_is_kept():
    small, large = Shape.of(SHAPE), Shape.of({**SHAPE, "hidden_size": 8192, "intermediate_size": 28672})
    packed = small.layers * sum(linear.parameters for linear in small.linears)
    assert backend(Nf4, compute_dtype="fp32").kept_bytes(small, "bf16") == 4 * packed
    assert backend(Nf4).kept_bytes(small, "fp32") == 2 * packed
    assert backend(Nf4).kept_bytes(large, "fp32") == 0
    assert backend(Int8).kept_bytes(small, "fp32") == 0
