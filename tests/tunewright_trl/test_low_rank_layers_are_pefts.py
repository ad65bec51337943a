"""A LoRA layer that runs as one function gives PEFT's output and gradients, over plain and over packed weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_training import adapted, llama
from torch import nn
from transformers import BitsAndBytesConfig

from tunewright_trl.low_rank import LowRankLayers

LAYERS = 14  # seven in each of two blocks


def packed(tmp_path: Any, **options: Any) -> Any:
    """A tiny Llama in NF4, its scales packed again."""
    llama(hidden_size=64, intermediate_size=128).save_pretrained(tmp_path)
    wanted = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(tmp_path, quantization_config=wanted, dtype=torch.float32)
    for module in model.modules():
        module.support_avx512bf16_for_cpu = False
    return with_lora(model, **options)


def with_lora(model: Any, **options: Any) -> Any:
    torch.manual_seed(1)
    given = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options}
    wrapped = get_peft_model(model, LoraConfig(**given))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return wrapped


def passed(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and the gradients of all adapters in one vector."""
    model.zero_grad()
    ids = torch.arange(3, 27).view(2, 12)
    logits = model(input_ids=ids).logits
    (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
    slopes = [p.grad.flatten().float() for p in model.parameters() if p.grad is not None]
    return logits.detach(), torch.cat(slopes)


def assert_same(model: Any, layers: int, tolerance: float = 1e-5) -> None:
    theirs, their_slopes = passed(model)
    ours = LowRankLayers(model)
    assert len(ours) == layers
    found, slopes = passed(model)
    ours.stop()
    assert (found - theirs).norm() <= tolerance * theirs.norm()
    assert (slopes - their_slopes).norm() <= tolerance * their_slopes.norm()
    assert torch.equal(passed(model)[0], theirs)  # PEFT's own again


def test_over_plain_weights() -> None:
    assert_same(adapted(), LAYERS)


def test_over_layers_with_a_bias() -> None:
    assert_same(adapted(llama(attention_bias=True)), LAYERS)


def test_an_adapter_in_fp32_over_a_base_in_bf16() -> None:
    model = adapted(llama().bfloat16())
    assert {p.dtype for name, p in model.named_parameters() if "lora" in name} == {torch.float32}
    assert_same(model, LAYERS, tolerance=2e-2)


def test_over_packed_weights(tmp_path: Any) -> None:
    assert_same(packed(tmp_path), LAYERS)


@pytest.mark.parametrize(
    "options", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}], ids=["dropout", "dora", "bias"]
)
def test_what_is_more_than_two_matrices_is_left_to_peft(options: dict[str, Any]) -> None:
    assert len(LowRankLayers(with_lora(llama(), **options))) == 0


def test_without_the_adapter_it_is_the_base() -> None:
    model = adapted()
    ids = torch.arange(3, 27).view(2, 12)
    with torch.no_grad(), model.disable_adapter():
        theirs = model(input_ids=ids).logits
        ours = LowRankLayers(model)
        assert torch.equal(model(input_ids=ids).logits, theirs)
        ours.stop()


def test_another_adapter_that_is_switched_on_beside_it_counts() -> None:
    model = adapted()
    ours = LowRankLayers(model)
    model.add_adapter("other", LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    model.base_model.set_adapter(["default", "other"])
    found = passed(model)[0]
    ours.stop()
    assert torch.equal(found, passed(model)[0])


def test_under_autocast_the_types_are_pefts() -> None:
    model = adapted()
    with torch.autocast("cpu", torch.bfloat16):
        theirs = passed(model)[0]
        ours = LowRankLayers(model)
        assert torch.equal(passed(model)[0], theirs)
    ours.stop()


def test_a_layer_that_somebody_listens_to_is_left_to_peft() -> None:
    model = adapted()
    model.get_base_model().model.layers[0].self_attn.q_proj.base_layer.register_forward_hook(lambda *_: None)
    ours = LowRankLayers(model)
    assert len(ours) == LAYERS - 1
    ours.stop()
