"""Norms and gated MLPs keep less, and give the model's own numbers; others are left as they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_shared_beginnings_change_nothing import made
from tiny_training import adapted, llama
from transformers import GemmaConfig, GemmaForCausalLM

from tunewright_trl.lean import LeanLayers


def passed(model: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Logits, all gradients in one vector, and the bytes that were kept for the backward."""
    model.zero_grad()
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(input_ids=torch.arange(3, 51).view(2, 24)).logits
    (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
    slopes = torch.cat([p.grad.flatten().float() for p in model.parameters() if p.grad is not None])
    return logits.detach(), slopes, sum(kept.values())


@pytest.mark.parametrize("wrap", [adapted, lambda model: model], ids=["adapter", "full"])
@pytest.mark.parametrize(("family", "modules"), [("llama", 7), ("mistral", 7), ("qwen2", 7), ("qwen3", 11)])
def test_the_numbers_are_the_models_own(family: str, modules: int, wrap: Any) -> None:
    """Two norms and an MLP in each of two layers, and the last norm; Qwen3 norms queries and keys besides."""
    model = wrap(made(family)).train()
    logits, slopes, kept = passed(model)
    lean = LeanLayers(model)
    assert len(lean) == modules
    found, learnt, less = passed(model)
    lean.stop()
    torch.testing.assert_close(found, logits)
    assert (learnt - slopes).norm() <= 1e-5 * slopes.norm()
    assert less < kept
    assert torch.equal(passed(model)[0], logits)


def test_in_bf16_they_are_as_near_to_fp32() -> None:
    exact = passed(llama())[1]
    model = llama().bfloat16()
    own = passed(model)[1]
    lean = LeanLayers(model)
    assert len(lean) == 7
    ours = passed(model)[1]
    assert (ours - exact).norm() <= 1.05 * (own - exact).norm()


def test_what_is_another_formula_is_left_alone() -> None:
    """Gemma's norm multiplies by one more than its weight, and its gate is a GELU."""
    shape = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    model = GemmaForCausalLM(GemmaConfig(**shape, num_attention_heads=4, num_key_value_heads=2))
    assert len(LeanLayers(model)) == 0


def test_a_formula_is_tried_and_not_believed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    kind = type(model.model.norm)
    own = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, x: own(self, x) * 1.01)
    assert len(LeanLayers(model)) == 2  # the MLPs alone
